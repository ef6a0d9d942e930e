"""The chart on the cluster: images of what is in the tree, namespaces of restricted security, Helm, and a Prometheus."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cluster import Access, Cluster, images, programs
from cluster.images import Image
from cluster.waiting import until
from e2e.fleets import PARTS, base

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "fibflow"
LAST_WORDS = "--- of the namespace:\n"
"""What Helm said is before that."""
PROMETHEUS_FILE = 'FROM scratch\nCOPY prometheus /prometheus\nUSER 65534:65534\nENTRYPOINT ["/prometheus"]\n'


def operator() -> Image:
    """The operator's image."""
    return images.of(ROOT, "fibflow-operator", "operator", parts=PARTS)


def example() -> Image:
    """The example's workers."""
    return images.of(ROOT / "examples" / "stdlib", "fibflow-example-stdlib", parents={"fibflow-worker": base()})


def postgresql() -> Image:
    """A PostgreSQL for the chart to run."""
    return images.of(Path(__file__).parent / "postgresql", "postgresql")


def prometheus(folder: Path) -> Image:
    """Prometheus alone; `folder` is where its image may be put together."""
    (folder / "Dockerfile").write_text(PROMETHEUS_FILE)
    (folder / "prometheus").write_bytes(programs.apart("prometheus").read_bytes())
    (folder / "prometheus").chmod(0o755)
    return images.of(folder, "prometheus")


@contextmanager
def restricted(cluster: Access, name: str) -> Iterator[str]:
    """A namespace that takes only pods of restricted security."""
    with cluster.namespace(name) as namespace:
        labels = [f"pod-security.kubernetes.io/{mode}=restricted" for mode in ("enforce", "warn")]
        cluster.kubectl("label", "namespace", namespace, *labels)
        yield namespace


class Release:
    """A release of the chart, named `my`, in a namespace, by Helm 3 or by the command that `program` names."""

    def __init__(self, cluster: Cluster, namespace: str, image: str, folder: Path, program: str = "helm") -> None:
        self.cluster, self.namespace, self._image, self._folder = cluster, namespace, image, folder
        self.program = program
        self.values: dict[str, Any] = {}
        self.notes = ""
        self.took = 0.0

    def helm(self, *arguments: str) -> str:
        """What a Helm command prints; RuntimeError with what it said when it fails."""
        command = [str(self.cluster.commands / self.program), *arguments, "--namespace", self.namespace]
        done = subprocess.run([*command, "--kubeconfig", str(self.cluster.kubeconfig)], capture_output=True, text=True)
        if done.returncode != 0:
            words = f"{done.stderr.strip()}\n{done.stdout}\n{LAST_WORDS}{self.last_words()}"
            raise RuntimeError(f"{self.program} {' '.join(arguments)}: {words}")
        return done.stdout

    def install(self, values: dict[str, Any], chart: Path = CHART, *options: str) -> str:
        """Install, or upgrade, and wait; what Helm printed."""
        repository, _, tag = self._image.rpartition(":")
        self.values = {"image": {"repository": repository, "tag": tag, "pullPolicy": "Never"}, **values}
        file = self._folder / "values.json"
        file.write_text(json.dumps(self.values))
        # Other tests may have applied the definitions themselves.
        waiting = ("--wait", "--timeout", "180s", "--take-ownership", *options)
        return self.helm("upgrade", "--install", "my", str(chart), "--values", str(file), *waiting)

    def uninstall(self) -> None:
        """Take it away; its pods are gone a while later."""
        self.helm("uninstall", "my")

    def operators(self) -> list[str]:
        """The names of the operator's pods."""
        ours = ("pods", "-l", "app.kubernetes.io/component=operator")
        return self.cluster.field(".items[*].metadata.name", *ours, namespace=self.namespace).split()

    def fibflow(self, *arguments: str) -> Any:
        """What the command answers in an operator's pod."""
        pod = self.operators()[0]
        command = ("python", "-m", "fibflow", *arguments, "--output", "json", "--namespace", self.namespace)
        return json.loads(self.cluster.kubectl("exec", "-n", self.namespace, pod, "-c", "operator", "--", *command))

    def last_words(self) -> str:
        """What the namespace's pods are and said last."""
        said = [self._try("get", "pods,jobs", "-o", "wide"), self._try("get", "events")[-3000:]]
        for pod in self._try("get", "pods", "-o", "name").split():
            said.append(f"--- {pod}\n{self._try('logs', pod, '--all-containers', '--tail=15')}")
        return "\n".join(said)

    def _try(self, *arguments: str) -> str:
        try:
            return self.cluster.kubectl(*arguments, "-n", self.namespace)
        except RuntimeError as error:
            return str(error)


class Prometheus:
    """A Prometheus in a namespace that scrapes all of fibflow's pods of that namespace each second."""

    def __init__(self, cluster: Cluster, namespace: str, image: str, rules: Path) -> None:
        self.cluster, self.namespace = cluster, namespace
        cluster.kubectl("create", "configmap", "rules", "-n", namespace, f"--from-file=rules.yaml={rules}")
        cluster.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(_prometheus(namespace, image))}), namespace)
        cluster.wait("condition=Ready", "pod/prometheus", namespace=namespace)

    def ask(self, path: str) -> Any:
        """An answer of its API."""
        place = f"/api/v1/namespaces/{self.namespace}/pods/prometheus:9090/proxy/api/v1/{path}"
        return json.loads(self.cluster.kubectl("get", "--raw", place))["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression has now."""
        found: list[dict[str, Any]] = self.ask(f"query?query={quote(expression)}")["result"]
        return found

    def wait(self, expression: str, seconds: float = 60) -> list[dict[str, Any]]:
        """The series, once there are any."""
        until(lambda: bool(self.query(expression)), seconds, f"{expression} has series")
        return self.query(expression)

    def names(self) -> set[str]:
        """The names of fibflow's series."""
        return {name for name in self.ask("label/__name__/values") if name.startswith("fibflow_")}


@cache
def scraping() -> str:
    """Prometheus' settings: a scrape a second, of every port named http of ours."""
    keep = [
        {"source_labels": ["__meta_kubernetes_pod_container_port_name"], "regex": "http", "action": "keep"},
        {"source_labels": ["__meta_kubernetes_pod_label_app_kubernetes_io_name"], "regex": "fibflow.*", "action": "keep"},
        {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
        {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
    ]
    job = {"job_name": "fibflow", "relabel_configs": keep}
    job["kubernetes_sd_configs"] = [{"role": "pod", "namespaces": {"own_namespace": True}}]
    often = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    return json.dumps({"global": often, "rule_files": ["/rules/rules.yaml"], "scrape_configs": [job]})


def _prometheus(namespace: str, image: str) -> Iterator[dict[str, Any]]:
    named = {"name": "prometheus"}
    yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": named}
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]
    yield {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": named, "rules": rules}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "prometheus"}
    subjects = [{"kind": "ServiceAccount", "name": "prometheus", "namespace": namespace}]
    binding = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": named}
    yield {**binding, "roleRef": reference, "subjects": subjects}
    yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": named, "data": {"prometheus.yml": scraping()}}
    options = ["--config.file=/settings/prometheus.yml", "--storage.tsdb.path=/data", "--log.level=warn"]
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    mounts = {"settings": "/settings", "rules": "/rules", "data": "/data"}
    container = {
        "name": "prometheus",
        "image": image,
        "imagePullPolicy": "Never",
        "args": options,
        "securityContext": security,
        "readinessProbe": {"httpGet": {"path": "/-/ready", "port": 9090}, "periodSeconds": 1},
        "volumeMounts": [{"name": name, "mountPath": path} for name, path in mounts.items()],
    }
    volumes = [{"name": "settings", "configMap": named}, {"name": "rules", "configMap": {"name": "rules"}}]
    pod = {
        "serviceAccountName": "prometheus",
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [*volumes, {"name": "data", "emptyDir": {}}],
    }
    yield {"apiVersion": "v1", "kind": "Pod", "metadata": named, "spec": pod}
