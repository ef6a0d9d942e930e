"""A pool in a simulated time: tasks come, pods start late and work them off, and a rule says how many pods there are.

One step is a second. Pods take so many seconds to start. What a rule takes away goes idle first if it can tell, else as it
comes; a pod that goes while it works kills what it runs, and that waits again.
"""

import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from fibflow.scaling import Decision, History, Load, Rule, Signal, decide

START = 3
"""Seconds from `/scale` to a pod's first claim."""
SERVICE = 2
"""Seconds that a task takes."""
WINDOW = 30
"""Seconds over which arrivals are counted."""


@dataclass
class Pod:
    ready_at: int
    ends: list[int] = field(default_factory=list)


@dataclass
class Course:
    """What became of a run."""

    waits: list[int] = field(default_factory=list)
    killed: int = 0
    turns: int = 0
    """How often the number of pods changed its direction."""
    started: int = 0
    pods: list[int] = field(default_factory=list)

    @property
    def worst(self) -> int:
        return max(self.waits, default=0)

    def quantile(self, part: float) -> int:
        return sorted(self.waits)[int(len(self.waits) * part)] if self.waits else 0


Scaler = Callable[[int, int, int, float, list[Pod]], int]
"""From second, waiting, running, arrivals a second and pods to how many pods there should be."""


def run(arrivals: list[int], slots: int, scaler: Scaler, idle_first: bool) -> Course:
    course, waiting, recent = Course(), deque[int](), deque[int](maxlen=WINDOW)
    pods: list[Pod] = []
    chance = random.Random(7)
    direction = 0
    for now, coming in enumerate(itertools.chain(arrivals, [0] * 400)):
        waiting.extend([now] * coming)
        recent.append(coming)
        for pod in pods:
            pod.ends = [end for end in pod.ends if end > now]
        for pod in pods:
            while waiting and pod.ready_at <= now and len(pod.ends) < slots:
                course.waits.append(now - waiting.popleft())
                pod.ends.append(now + SERVICE)
        running = sum(len(pod.ends) for pod in pods)
        wanted = scaler(now, len(waiting), running, sum(recent) / len(recent), pods)
        if wanted != len(pods):
            turned = 1 if wanted > len(pods) else -1
            course.turns += turned != direction
            direction = turned
        while len(pods) < wanted:
            pods.append(Pod(now + START))
            course.started += 1
        for pod in list(_victims(pods, len(pods) - wanted, idle_first, chance)):
            course.killed += len(pod.ends)
            waiting.extendleft([now] * len(pod.ends))
            pods.remove(pod)
        course.pods.append(len(pods))
    assert not waiting and not any(pod.ends for pod in pods)
    return course


def _victims(pods: list[Pod], count: int, idle_first: bool, chance: random.Random) -> Iterator[Pod]:
    """Idle pods only, as the operator takes them; or whichever a ReplicaSet that knows nothing takes."""
    if count <= 0:
        return
    if idle_first:
        yield from [pod for pod in pods if not pod.ends][:count]
    else:
        yield from chance.sample(pods, count)


def ours(rule: Rule) -> Scaler:
    history = History()
    decisions: list[Decision] = []

    def scale(now: int, waiting: int, running: int, rate: float, pods: list[Pod]) -> int:
        nonlocal history
        load = Load(waiting, running, rate, float(SERVICE))
        decision, history = decide(rule, Signal(float(now), len(pods), [load]), history)
        decisions.append(decision)
        return decision.replicas

    return scale


def by_queue_length(rule: Rule) -> Scaler:
    """What a metric of the queue and a replica count give: so many tasks a pod, looked at every 15 seconds."""
    wanted = 0

    def scale(now: int, waiting: int, running: int, rate: float, pods: list[Pod]) -> int:
        nonlocal wanted
        if now % 15 == 0:
            wanted = min(math.ceil((waiting + running) / rule.slots), rule.most)
        return wanted

    return scale
