r"""Line breaks that upstream or a converter wrote as the two characters backslash and n."""

import re

# LaTeX commands that begin with n: there the backslash-n is no line break.
_LATEX_N = (
    "abla|atural|cong|e|earrow|eg|eq|ewcommand|ewline|exists|geq|i|leq|mid|obreak|oindent|olimits|ominus|onumber|"
    "ormalsize|ot|otin|parallel|prec|rightarrow|leftarrow|Rightarrow|Leftarrow|sim|subset|subseteq|succ|supset|"
    "triangleleft|triangleright|u|warrow"
)
LITERAL_NEWLINE = re.compile(rf"(?<!\\)\\n(?!(?:{_LATEX_N})(?![A-Za-z]))")


def real_newlines(text: str) -> str:
    r"""Turn a literal backslash-n into a line break, except in LaTeX commands such as \neq and \nu and after `\\`."""
    return LITERAL_NEWLINE.sub("\n", text)
