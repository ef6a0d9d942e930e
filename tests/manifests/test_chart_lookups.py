"""What the chart asks of a cluster before anything is installed: are the namespaces and Secrets there that values name?"""

import pytest

from manifests.api_server import namespace, secret, serving
from manifests.charts import HELMS, Refused, Resource, render

CHOSEN: Resource = {
    "watchNamespaces": ["one", "two"],
    "database": {"existingSecret": "mine", "keys": {"operator": "op", "migrations": "owner"}, "ca": {"secret": "authority"}},
}
PLACES = [namespace(name) for name in ("there", "one", "two")]
SECRETS = [secret("mine", "there", "op", "owner"), secret("authority", "there", "ca.crt")]


def _asking(objects, values, major):
    """Render as Helm does for a cluster with these objects."""
    kinds = [(each["apiVersion"], each["kind"]) for each in render(values)]
    with serving(objects, kinds) as address:
        asked = ("--dry-run=server", "--disable-openapi-validation", "--kube-apiserver", address)
        return render(values, *asked, major=major)


@pytest.mark.parametrize("major", HELMS)
@pytest.mark.parametrize(
    "objects",
    [
        pytest.param([*PLACES, *SECRETS], id="all is there"),
        pytest.param([], id="Helm makes the namespace"),
    ],
)
def test_what_may_be_installed_is(objects, major):
    assert _asking(objects, CHOSEN, major)


@pytest.mark.parametrize(
    ("objects", "said"),
    [
        (
            [*PLACES[:2], *SECRETS],
            "watchNamespaces names two, and there is no such namespace. Make it first: kubectl create namespace two",
        ),
        (
            [*PLACES, *SECRETS[1:]],
            "database.existingSecret names mine, and there is no such Secret in there. Make it first: "
            "kubectl create secret generic mine --namespace there --from-literal=op=…",
        ),
        (
            [*PLACES, secret("mine", "there", "owner"), *SECRETS[1:]],
            "The Secret mine in there has no key op, which database.keys.operator names. It has: owner.",
        ),
        (
            [*PLACES, secret("mine", "there", "op", "dsn"), *SECRETS[1:]],
            "The Secret mine in there has no key owner, which database.keys.migrations names. It has: dsn, op.",
        ),
        ([*PLACES, *SECRETS[:1]], "database.ca.secret names authority, and there is no such Secret in there."),
        (
            [*PLACES, *SECRETS[:1], secret("authority", "there")],
            "The Secret authority in there has no key ca.crt, which database.ca.key names. It has: none.",
        ),
    ],
)
def test_what_would_be_half_installed_is_refused_and_told_what_is_missing(objects, said):
    with pytest.raises(Refused) as refused:
        _asking(objects, CHOSEN, 3)
    assert said in str(refused.value)


@pytest.mark.parametrize("major", HELMS)
def test_a_namespace_of_workers_must_be_there_too(major):
    with pytest.raises(Refused, match=r"database\.workers\.namespaces names three, and there is no such namespace"):
        _asking(PLACES, {"database": {"host": "db", "workers": {"namespaces": ["three"]}}}, major)


def test_without_migrations_their_key_is_not_missed():
    objects = [*PLACES, secret("mine", "there", "op"), *SECRETS[1:]]
    assert _asking(objects, CHOSEN | {"migrations": {"enabled": False}}, 3)
