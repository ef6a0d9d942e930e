"""What a request to the API server asks for, in the words that RBAC uses for it.

It reads a request's method and address, and whose it is; it knows nothing of connections.
"""

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}
WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
ANONYMOUS = "system:anonymous"


@dataclass(frozen=True, slots=True)
class Call:
    """One request: `resource` is as in a Role's rules ("pods", "pods/eviction"), empty where the path is none.

    `status` is what was answered, 0 where nothing was; `fault` names what the proxy did to it.
    """

    verb: str
    group: str
    resource: str
    namespace: str
    name: str
    user: str
    path: str
    status: int = 0
    fault: str = ""

    @property
    def writes(self) -> bool:
        """Whether it changes what the API server keeps."""
        return self.verb in WRITES

    def fits(self, where: Mapping[str, str]) -> bool:
        """Whether each of the fields that are named has that value."""
        return all(getattr(self, field) == value for field, value in where.items())


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: a user and its groups by certificate, or a user by a token that the API server is to check."""

    user: str
    groups: tuple[str, ...] = ()
    certified: bool = False


def read(method: str, path: str, query: Mapping[str, str], user: str) -> Call:
    """The call that a request makes."""
    match path.strip("/").split("/"):
        case ["api", _version, *rest] if rest:
            group = ""
        case ["apis", group, _version, *rest] if rest:
            pass
        case _:
            return Call(method.lower(), "", "", "", "", user, path)
    namespace, rest = _namespace(rest)
    resource, name, subresource = (*rest, "", "")[:3]
    watching = query.get("watch") in ("1", "true", "True")
    verb = _verb(method, bool(name), watching)
    return Call(verb, group, f"{resource}/{subresource}".rstrip("/"), namespace, name, user, path)


def caller(certificate: Mapping[str, Any] | None, authorization: str) -> Caller:
    """Whose request it is, by its client certificate, else by its bearer token."""
    if certificate:
        names = [pair for part in certificate["subject"] for pair in part]
        user = next(value for key, value in names if key == "commonName")
        return Caller(user, tuple(value for key, value in names if key == "organizationName"), certified=True)
    token = authorization.removeprefix("Bearer ")
    return Caller(_subject(token) if token != authorization else ANONYMOUS)


def _namespace(rest: list[str]) -> tuple[str, list[str]]:
    """A namespace is itself a resource; what follows its name is inside of it, but for these two."""
    match rest:
        case ["namespaces", name, inside, *more] if inside not in ("status", "finalize"):
            return name, [inside, *more]
    return "", rest


def _verb(method: str, named: bool, watching: bool) -> str:
    if method == "DELETE":
        return "delete" if named else "deletecollection"
    if method in VERBS:
        return VERBS[method]
    return "watch" if watching else "get" if named else "list"


def _subject(token: str) -> str:
    """A service account's name, from the token's own text: whether it is true is for the API server to say."""
    try:
        claims = token.split(".")[1]
        return str(json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["sub"])
    except (IndexError, KeyError, ValueError, binascii.Error):
        return "unknown token"


def rules(calls: Iterable[Call]) -> set[tuple[str, str, str]]:
    """The calls as the rules they need: group, resource, verb."""
    return {(call.group, call.resource, call.verb) for call in calls if call.resource}
