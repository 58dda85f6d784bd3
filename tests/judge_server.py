"""A judge model in this process that misbehaves on demand; see `chat_server`."""

import json

from chat_server import Body, ChatServer, completion, problem, slowly

__all__ = ["NO", "YES", "JudgeServer", "completion", "problem", "slowly"]

YES = '{"reason": "the same", "equivalent": true}'
NO = '{"reason": "another thing", "equivalent": false}'


class JudgeServer(ChatServer):
    """`behave` finds what is to be judged under `case`; requests are counted per question."""

    def read(self, request: Body) -> tuple[str, Body]:
        case = json.loads(request["messages"][-1]["content"])
        return case["question"], request | {"case": case}
