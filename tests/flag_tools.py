"""What the rows of the flag table may use, and where they register."""

from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import run_fakes
import torch
from torch import Tensor

from dmlr import inference, runner
from dmlr.backbone import Backbone
from dmlr.config import resolve
from dmlr.scoring import Scorer

CHECKS = {}


def flag(name):
    """Register the row of a flag: a function that runs without and with it and asserts what differs."""

    def register(check):
        assert name not in CHECKS
        CHECKS[name] = check
        return check

    return register


@dataclass
class Seen:
    """A run of the engine on one sample, and what passed between its parts."""

    prediction: object = None
    candidates: list[Tensor] = field(default_factory=list)  # (K, L, D) per step
    states: list[tuple[Tensor, Tensor]] = field(
        default_factory=list
    )  # (L, D), (L, M): the start, then one per step
    decoded: tuple[Tensor, Tensor] = ()  # what the answer was decoded from

    @property
    def trace(self):
        return self.prediction.trace

    def offsets(self, step):
        """Candidates of a step (1-based) relative to the thoughts they were drawn around, (K, L, D)."""
        return self.candidates[step - 1] - self.states[step - 1][0]


class Tools:
    """What a row may use: `engine` runs the tiny model, `command` a whole run with a fake one."""

    def __init__(self, tiny, samples, config, tmp_path, monkeypatch, capsys):
        self.tiny, self.samples, self.tmp_path = tiny, samples, tmp_path
        self.monkeypatch, self.capsys = monkeypatch, capsys
        self.config = config.replace(num_candidates=4, reward_baseline="mean", max_num_steps=6)

    def engine(self, rising=False, **flags):
        """Run the engine; `rising`: each state that is scored gets a higher reward, so that all are accepted."""
        seen, config = Seen(), self.config.replace(**flags)
        score, candidates, decode = Scorer.score, Scorer.score_candidates, Backbone.decode

        def record_state(scorer, thoughts, patches, *args, **kwargs):
            seen.states.append((thoughts[0].detach().clone(), patches[0].clone()))
            scored = score(scorer, thoughts, patches, *args, **kwargs)
            rigged = torch.full_like(scored.reward, len(seen.states))
            return replace(scored, reward=rigged) if rising else scored

        def record_candidates(scorer, drawn, patches):
            seen.candidates.append(drawn[0].clone())
            return candidates(scorer, drawn, patches)

        def record_decoding(backbone, prefix, thoughts, patches, *args, **kwargs):
            seen.decoded = (thoughts[0].clone(), patches[0].clone())
            return decode(backbone, prefix, thoughts, patches, *args, **kwargs)

        with self.monkeypatch.context() as patch:
            patch.setattr(Scorer, "score", record_state)
            patch.setattr(Scorer, "score_candidates", record_candidates)
            patch.setattr(Backbone, "decode", record_decoding)
            (seen.prediction,) = inference.answer(self.samples[:1], self.tiny, config)
        return seen

    def argv(self, *words, questions=3):
        """Flags of a run over a text-only dataset; `words` come last and win."""
        dataset = run_fakes.write_dataset(self.tmp_path, questions)
        return ["--dataset", dataset, "--output_dir", str(self.tmp_path / "out"), "--verbose", "0", *words]

    def command(self, *words, questions=3, engine=run_fakes.engine):
        """Run these flags; returns the outcome, what the run wrote to stderr, and the files in its folder."""
        config = resolve(self.argv(*words, questions=questions))
        self.monkeypatch.setattr(runner, "_metrics", lambda *_: {})
        self.capsys.readouterr()
        outcome = runner.run(config, engine, run_fakes.Verifier())
        folder = self.tmp_path / "out"
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        return SimpleNamespace(outcome=outcome, err=self.capsys.readouterr().err, files=files)
