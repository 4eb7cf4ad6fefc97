# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The logic of the module ``rehearse``: an inventory at its full size, on a cluster whose nodes are simulated."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.capacity import (
    COMPONENTS,
    NODE_POOLS,
    asked,
    of_variables,
    read_yaml,
    wrong_pools,
    wrong_workloads,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.charts import ASSUMED_KUBERNETES
from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import (
    all_or_error,
    concurrently,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.dashboards.dashboards import write
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import (
    Cluster,
    auth_argument_spec,
    is_this_machine,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.programs import Program, end_groups
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rehearse import (
    cloud as clouds,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rehearse import (
    nodes as simulated,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rehearse import (
    page,
    promises,
    site,
    standins,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rehearse import snapshot as snapshots
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rehearse.live import KINDS, Live
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rehearse.promises import Loss, Promise
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rehearse.standins import (
    FIELD_MANAGER,
    StandIns,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rehearse.table import lines
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rehearse.trials import (
    DRAIN_GRACE_SECONDS,
    Trials,
)

ARGUMENT_SPEC: dict[str, Any] = {
    **auth_argument_spec(),
    "inventory": {"type": "str", "required": True},
    "components": COMPONENTS,
    # Among an inventory's values are secrets.
    "variables": {"type": "dict", "default": {}, "no_log": True},
    "node_pools": NODE_POOLS,
    "own_node_types": {"type": "dict", "default": {}},
    "node_types": {"type": "path", "required": True},
    "clouds": {"type": "path", "required": True},
    "stages": {"type": "path", "required": True},
    "kwok_binary": {"type": "path", "required": True},
    "helm_binary": {"type": "str", "default": "helm"},
    "playbook": {"type": "path", "required": True},
    "arguments": {"type": "list", "elements": "str", "default": []},
    "folder": {"type": "path", "required": True},
    "state_dir": {"type": "path", "required": True},
    "accept": {"type": "list", "elements": "str", "default": []},
    "preflight_ignore": {"type": "list", "elements": "str", "default": []},
    "styles": {"type": "list", "elements": "path", "default": []},
    "output": {"type": "path"},
    "json_output": {"type": "path"},
    "site_seconds": {"type": "int", "default": 1200},
}
RESULT_HOLDS_NONE_OF = ("variables",)
"""The report speaks of names and numbers, never of keys and tokens."""

AUTOSCALER_SECONDS = 45
"""It looks every 15 s."""
NOT_REHEARSED = (
    "Images are not pulled and nothing runs in a pod: what only a program that runs can say is not known. Pods are "
    "ready about a second after they have a node.",
    "Patroni, Redis and Sentinel elect nobody. That a primary and its synchronous standby are apart is shown by where "
    "all members are.",
    "playbooks/verify.yml is not run: each of its checks asks inside of pods, or calls the edge.",
    "Autoscalers have no figures (metrics.k8s.io and custom.metrics.k8s.io are not served): their targets are scaled "
    "here, to the least and the most.",
    "NetworkPolicies are applied, and nobody enforces them. Load balancers have a made-up address and register nobody.",
    "Volumes are made in the zone of their pod at once, by a stand-in: the cloud's quotas and the time to attach are "
    "not known.",
    "Prometheus and Alertmanager have the StatefulSets that their operator would make of the same objects; the "
    "operator itself does not run.",
)
"""What no simulated pod can tell, said in every report."""


def run(
    params: dict[str, Any],
    check_mode: bool,
    diff: bool,
    progress: Callable[[str], None],
    connect: Callable[..., Cluster] = Cluster,
) -> dict[str, Any]:
    """The whole rehearsal; in check mode only what the inventory itself has wrong."""
    types = {**read_yaml(params["node_types"]), **params["own_node_types"]}
    problems = wrong(params, types)
    if problems:
        raise PlatformError.of_many("%s cannot be rehearsed, and nothing was started" % params["inventory"], problems)
    if check_mode:
        return {"changed": False, "msg": "the inventory can be rehearsed"}
    rehearsal = Rehearsal(params, types, progress, connect(params), Cluster(params, timeout_seconds=0.1))
    report = rehearsal.run()
    table = lines(report)
    for line in table:
        progress(line)
    written = _written(params, report)
    result = {"changed": True, "report": _without_drawings(report), "table": table, "written": written}
    broken = [one for one in report["promises"] if one["result"] == promises.FAILS]
    if broken:
        errors = [
            PlatformError(one["sentence"], found="; ".join(one["seen"]), fix=one["to_do"], reason="rehearsal")
            for one in broken
        ]
        error = PlatformError.of_many("%d promises of %s do not hold" % (len(broken), params["inventory"]), errors)
        return {"failed": True, **result, **error.result()}
    return result


def _written(params: dict[str, Any], report: dict[str, Any]) -> list[str]:
    styles = [Path(path).read_text(encoding="utf-8") for path in params["styles"]]
    texts = {
        "output": lambda: page.drawn(report, "\n".join(styles)),
        "json_output": lambda: json.dumps(report, indent=1) + "\n",
    }
    for name, text in texts.items():
        if params.get(name):
            write(params[name], text())
    return [params[name] for name in texts if params.get(name)]


def _without_drawings(report: dict[str, Any]) -> dict[str, Any]:
    """What a task's result has room for: the drawings are in the files."""
    losses = {
        name: [{key: value for key, value in one.items() if key not in ("before", "after")} for one in entries]
        for name, entries in report["losses"].items()
    }
    return {**{key: value for key, value in report.items() if key != "states"}, "losses": losses}


# --- before anything is started ---------------------------------------------------------------------------------------


def wrong(params: dict[str, Any], types: dict[str, Any]) -> list[PlatformError]:
    """All that is wrong with the inventory by itself."""
    pools = params["node_pools"]
    found = of_variables(params["variables"].get("problems") or [])
    strange = sorted(set(params["accept"]) - set(promises.CHECKS))
    if strange:
        found.append(
            PlatformError(
                "rehearse_accept names what is no promise",
                found=", ".join(strange),
                expected=", ".join(promises.CHECKS),
                fix="correct rehearse_accept",
                reason="argument",
            )
        )
    if not pools:
        found.append(
            PlatformError(
                "nobody knows which nodes the cluster has",
                where="platform_node_pools",
                found="none",
                expected="the pools of the cluster's nodes, with types, zones and numbers",
                fix="name them in the inventory, as inventories/production-eks does",
                reason="argument",
            )
        )
        return found
    bad_pools = wrong_pools(pools, types)
    found += bad_pools
    if bad_pools:
        return found
    found += _wrong_clouds(pools, types, params["clouds"])
    found += _wrong_values(params["variables"], pools)
    workloads, notes = asked(params["components"], params["helm_binary"], ASSUMED_KUBERNETES)
    if not found:
        # Of a value that is wrong, more than itself cannot be rendered.
        found += [
            PlatformError("not everything can be rendered", found=note, fix="see capacity.yml", reason="render")
            for note in notes
        ]
    return found + wrong_workloads(workloads, pools, types)


def _wrong_clouds(pools: list[dict[str, Any]], types: dict[str, Any], folder: str) -> Iterator[PlatformError]:
    names = sorted({str(types[pool["type"]].get("cloud") or "") for pool in pools})
    known = sorted(path.stem for path in Path(folder).glob("*.yml") if path.stem != "stages")
    if len(names) != 1 or names[0] not in known:
        yield PlatformError(
            "nobody knows what the cloud brings with its nodes",
            where="platform_node_pools",
            found=", ".join(name or "types of no cloud" for name in names),
            expected="node types of one of %s" % ", ".join(known),
            fix="say `cloud` in platform_node_types",
            reason="argument",
        )


def _wrong_values(values: dict[str, Any], pools: list[dict[str, Any]]) -> Iterator[PlatformError]:
    there = {zone for pool in pools for zone in pool["zones"]}
    missing = [zone for zone in values.get("platform_zones") or [] if zone not in there]
    if missing:
        yield PlatformError(
            "pods have to be in zones without nodes",
            where="platform_zones",
            found=", ".join(missing),
            expected="zones of platform_node_pools: %s" % ", ".join(sorted(there)),
            fix="correct platform_zones, or platform_node_pools",
            reason="contradiction",
        )
    if values.get("logging_enabled") and values.get("logging_backend") == "elastic":
        yield PlatformError(
            "Elasticsearch cannot be rehearsed",
            where="logging_backend",
            found="elastic, whose operator waits for answers from inside of its pods",
            expected="victorialogs",
            fix="rehearse with -e logging_backend=victorialogs; playbooks/capacity.yml counts both",
            reason="contradiction",
        )


# --- the rehearsal ----------------------------------------------------------------------------------------------------


class Rehearsal:
    """One run on one throwaway cluster."""

    def __init__(
        self,
        params: dict[str, Any],
        types: dict[str, Any],
        progress: Callable[[str], None],
        cluster: Cluster,
        impatient: Cluster,
    ) -> None:
        self.params = params
        self.types = types
        self.pools = params["node_pools"]
        self.cluster = cluster
        self.impatient = impatient
        self.cloud = read_yaml(f"{params['clouds']}/{types[self.pools[0]['type']]['cloud']}.yml")
        self.names = simulated.Names()
        self.found: list[Promise] = []
        self.losses: dict[str, list[Loss]] = {}
        self.states: dict[str, Any] = {}
        self.seconds: dict[str, float] = {}
        self.jobs: set[str] = set()
        self._progress = progress
        self._began = time.monotonic()

    def say(self, line: str) -> None:
        """With the seconds since the beginning."""
        self._progress(f"rehearsal [{time.monotonic() - self._began:.0f} s]: {line}")

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """How long a part takes stands in the report."""
        began = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - began, 1)
        self.say(f"{name}: {self.seconds[name]:.0f} s")

    def run(self) -> dict[str, Any]:
        """The report."""
        self._guard()
        with contextlib.ExitStack() as stack:
            with self.timed("nodes"):
                self._clear()
                stack.enter_context(self._kwok())
                for batch in (clouds.definitions(self.cloud), clouds.objects(self.cloud)):
                    self.cluster.apply_many(batch, FIELD_MANAGER)
                self._certificate()
                stand_ins = StandIns(self.cluster, self.cloud)
                live = stack.enter_context(Live(self.cluster, (*KINDS, *standins.OPERATED), stand_ins.told()))
                live.complete()
                trials = Trials(self.cluster, self.impatient, live, [], self._come, self._another)
                trials.grow(simulated.wanted(self.pools, self.names, at_most=False))
            if self._site(trials):
                self._at_rest(trials)
                self._at_most(trials)
            self.jobs |= {f"{job['metadata']['namespace']}/{job['metadata']['name']}" for job in live.of("Job")}
        return self._report()

    # --- the cluster -------------------------------------------------------------------------------------------------

    def _guard(self) -> None:
        """Nodes are deleted in what follows: it has to be the throwaway cluster, and new."""
        names = [node["metadata"]["name"] for node in self.cluster.list("v1", "Node")]
        kind = [
            str((node.get("spec") or {}).get("providerID", "")).startswith("kind://")
            for node in self.cluster.list("v1", "Node")
        ]
        ours = self.cluster.get({"apiVersion": "v1", "kind": "Namespace", "name": "data-services"})
        if not is_this_machine(self.cluster.host) or len(names) != 1 or not all(kind) or ours is not None:
            raise PlatformError(
                "this is no new cluster for a rehearsal",
                where=self.cluster.described(),
                found="nodes %s%s" % (", ".join(names) or "none", "; it has the platform's namespaces" if ours else ""),
                expected="a kind cluster on this machine with its control plane alone",
                fix="run playbooks/rehearse.yml, which makes one and removes it",
                reason="target",
            )

    def _clear(self) -> None:
        """What kind brings and no cloud has: its node, its network, its default StorageClass."""
        gone = [
            *self.cluster.list("v1", "Node"),
            *self.cluster.list("apps/v1", "DaemonSet", clouds.NAMESPACE),
            *self.cluster.list("apps/v1", "Deployment", clouds.NAMESPACE),
            *self.cluster.list("storage.k8s.io/v1", "StorageClass"),
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "local-path-storage"}},
        ]
        for obj in gone:
            self.cluster.delete(obj)

    @contextlib.contextmanager
    def _kwok(self) -> Iterator[None]:
        log = Path(self.params["state_dir"]) / "kwok.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        argv = [
            self.params["kwok_binary"],
            *("--kubeconfig", str(self.params["kubeconfig"])),
            *("--config", self.params["stages"]),
            *("--manage-nodes-with-annotation-selector", "=".join(simulated.SIMULATED)),
            *("--node-lease-duration-seconds", "40"),
            *("--v", "WARN"),
            # No server: nobody asks a kubelet.
            *("--node-port", "0"),
            # An address for documents (RFC 5737): nodes of the host's network need one, and nobody is called at it.
            *("--node-ip", "192.0.2.1"),
        ]
        with log.open("wb") as output:
            process = Program(argv, stdout=output, stderr=subprocess.STDOUT)
            try:
                yield
                if process.poll() is not None:
                    raise PlatformError(
                        "kwok, which plays the nodes, has ended",
                        where=str(log),
                        found=log.read_text(errors="replace")[-800:],
                        expected="a program that runs to the rehearsal's end",
                        fix="see its log",
                        reason="program",
                    )
            finally:
                end_groups([process])

    def _come(self, nodes: list[simulated.Simulated]) -> None:
        version = str(self.cluster.version()["gitVersion"])
        made = [obj for node in nodes for obj in simulated.objects(node, self.pools, self.types, self.cloud, version)]
        # Created and not applied: a Node's status would be left out.
        all_or_error("nodes cannot be made", concurrently(lambda obj: self.cluster.create(obj, FIELD_MANAGER), made))

    def _another(self, node: simulated.Simulated) -> simulated.Simulated:
        return self.names.node(node.pool, node.zone)

    def _certificate(self) -> None:
        """The Secret with the edge's certificate, where its owner makes it: its content is looked at by nobody."""
        values = self.params["variables"]
        if values.get("ingress_tls_source") != "secret":
            return
        namespace, name = str(values["ingress_namespace"]), str(values["ingress_tls_secret"])
        for obj in (
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name, "namespace": namespace},
                "stringData": {"tls.crt": "made up for a rehearsal", "tls.key": "made up for a rehearsal"},
            },
        ):
            self.cluster.apply(obj, FIELD_MANAGER)

    # --- parts -------------------------------------------------------------------------------------------------------

    def _site(self, trials: Trials) -> bool:
        params = self.params
        state = Path(params["state_dir"])
        images = state / "images.json"
        images.write_text(json.dumps(site.images(site.OWN_IMAGES), indent=1), encoding="utf-8")
        over = site.overrides(
            str(params["kubeconfig"]),
            str(params["context"]),
            str(images),
            params["preflight_ignore"],
        )
        run = site.Site(params["playbook"], params["arguments"], params["folder"], over, self._progress)
        try:
            with self.timed("site.yml"):
                seconds = run.run(params["site_seconds"])
        except PlatformError as failure:
            state_now = trials.snapshot()
            seen = [failure.found, *promises.waiting_lines(state_now.pending), *promises.lacking_lines(state_now)]
            self.states["rest"] = snapshots.drawn(state_now)
            self.found.append(
                Promise("site", promises.FAILS, "site.yml does not come to its end", tuple(seen), failure.fix)
            )
            return False
        self.found.append(Promise("site", promises.HOLDS, f"site.yml comes to its end, in {seconds:.0f} s"))
        return True

    def _at_rest(self, trials: Trials) -> None:
        count = len(trials.nodes)
        where = f"{count} nodes, at rest"
        with self.timed("at rest"):
            late = trials.scaled(AUTOSCALER_SECONDS)
            rest = trials.whole()
        self.states["rest"] = snapshots.drawn(rest)
        self.found += [
            promises.scheduled("scheduled", rest, where, "raise min_count in platform_node_pools", late),
            promises.verdict(
                "share",
                promises.uneven(rest),
                f"{where}: no zone holds more than its share of a workload",
                f"{where}: a zone holds more than its share",
                "restart what is uneven (kubectl rollout restart), or make its spread hard",
            ),
            promises.verdict(
                "apart",
                [line for of in self._members() for line in promises.apart(rest, of)],
                "whichever member is PostgreSQL's primary, its synchronous standby is in another zone; so are Redis' "
                "master and its replicas",
                "members of which one may be the primary share a zone or a node",
                "name as many platform_zones as there are members",
            ),
        ]
        self._lose(trials, "nodes", [(node.name, [node]) for node in trials.nodes])
        self._lose_zones(trials, "zones")
        self.found += [
            promises.lost(
                "node_lost",
                self.losses["nodes"],
                f"{where}: each node can be lost: its pods find another",
                f"{where}: when a node is lost, pods stay without one",
                "raise min_count in platform_node_pools",
                whole_zone=False,
            ),
            promises.lost(
                "zone_lost",
                self.losses["zones"],
                f"{where}: each zone can be lost: what may move finds a node, and of what is kept there most is "
                "elsewhere",
                f"{where}: when a zone is lost, pods stay without a node",
                "raise min_count in platform_node_pools",
                whole_zone=True,
            ),
        ]
        with self.timed("drains"):
            trials.whole()
            self.losses["drains"] = [trials.drain(node) for node in list(trials.nodes)]
        self.found.append(
            promises.lost(
                "drain",
                self.losses["drains"],
                f"{where}: every node is drained, one after the other, as the disruption budgets allow",
                f"{where}: a node cannot be drained",
                "raise min_count in platform_node_pools, or correct the budget",
                whole_zone=False,
            )
        )
        moved = trials.whole()
        with self.timed("update at rest"):
            late, seconds = trials.update()
        self.found.append(
            promises.verdict(
                "update",
                late,
                f"{where}: a rolling update of everything at once finds room, in {seconds:.0f} s",
                f"{where}: a rolling update does not end",
                "raise min_count in platform_node_pools, or the quota (foundation_resource_quotas)",
            )
        )
        updated = trials.whole()
        left = promises.empty(moved)
        said = f" (after losses and drains: {'; '.join(left)})" if left else ""
        self.found.append(
            promises.verdict(
                "balance",
                promises.empty(updated),
                f"after all nodes have come back a rolling update leaves no zone empty{said}",
                "a zone is left empty, and a rolling update does not fill it",
                "make the workload's spread hard, or raise its replicas",
            )
        )

    def _lose(self, trials: Trials, name: str, losses: list[tuple[str, list[simulated.Simulated]]]) -> None:
        with self.timed(f"{name} lost" if name != "most" else "zones lost at most"):
            self.losses[name] = [trials.lose(f"{what} lost", gone) for what, gone in losses]

    def _lose_zones(self, trials: Trials, name: str) -> None:
        zones = sorted({node.zone for node in trials.nodes})
        if len(zones) < 2:
            self.losses[name] = []
            return
        with self.timed(f"{name} lost" if name == "zones" else "zones lost at most"):
            self.losses[name] = []
            for zone in zones:
                # What waited for the zone before has to be back: two zones at once are not what is promised.
                trials.whole()
                gone = [node for node in trials.nodes if node.zone == zone]
                self.losses[name].append(trials.lose(f"{zone} lost", gone))
            trials.whole()

    def _at_most(self, trials: Trials) -> None:
        with self.timed("maxima"):
            trials.grow(simulated.grown(trials.nodes, self.pools, self.names))
            trials.scale(at_most=True)
            most = trials.settled(ready=True)
        where = f"{len(trials.nodes)} nodes, autoscalers at their most"
        self.states["most"] = snapshots.drawn(most)
        self.found.append(
            promises.scheduled("maxima", most, where, "raise max_count in platform_node_pools, or lower the maxima")
        )
        self._lose_zones(trials, "most")
        self.found.append(
            promises.lost(
                "maxima_zone_lost",
                self.losses["most"],
                f"{where}: each zone can be lost",
                f"{where}: when a zone is lost, pods stay without a node",
                "raise max_count in platform_node_pools, or accept it: rehearse_accept: [maxima_zone_lost]",
                whole_zone=True,
            )
        )
        with self.timed("update at most"):
            late, seconds = trials.update()
        self.found.append(
            promises.verdict(
                "maxima_update",
                late,
                f"{where}: a rolling update of everything at once finds room, in {seconds:.0f} s",
                f"{where}: a rolling update does not end",
                "raise max_count in platform_node_pools, or the quota (foundation_resource_quotas)",
            )
        )
        trials.scale(at_most=False)
        with self.timed("scale in"):
            trials.settled()
        self._scale_in(trials)

    def _scale_in(self, trials: Trials) -> None:
        live = trials.live
        found = promises.blockers(live.of("Pod"), live.of("PodDisruptionBudget"))
        clouds_own = {of: why for of, why in found.items() if f" {clouds.NAMESPACE}/" in of}
        # Who says so of itself is meant to stay: its data would move.
        meant = sorted(of for of, why in found.items() if promises.SAFE_TO_EVICT in why and of not in clouds_own)
        ours = [f"{of}: {why}" for of, why in found.items() if of not in clouds_own and of not in meant]
        said = f"; of the cloud's own, {', '.join(sorted(clouds_own))} may keep a node" if clouds_own else ""
        said += f"; {', '.join(meant)} say that they are to be left where they are" if meant else ""
        self.found.append(
            promises.verdict(
                "scale_in",
                ours,
                f"no pod of the platform keeps cluster-autoscaler from taking a node away{said}",
                "pods keep cluster-autoscaler from taking their node away",
                f"annotate them ({promises.LOCAL_VOLUMES}), or give the budget room",
            )
        )

    def _members(self) -> list[str]:
        namespace = self.params["variables"].get("data_services_namespace", "data-services")
        return [f"StatefulSet {namespace}/{name}" for name in ("postgresql", "redis", "redis-sentinel")]

    # --- the report --------------------------------------------------------------------------------------------------

    def _report(self) -> dict[str, Any]:
        order = {check: number for number, check in enumerate(promises.CHECKS)}
        found = sorted(
            (promises.accepted(one, self.params["accept"]) for one in self.found), key=lambda one: order[one.check]
        )
        jobs = (
            [f"These Jobs and hooks end by themselves, and did nothing: {', '.join(sorted(self.jobs))}."]
            if self.jobs
            else []
        )
        return {
            "inventory": self.params["inventory"],
            "pools": self.pools,
            "promises": [one.as_dict() for one in found],
            "losses": {name: [_loss(one) for one in entries] for name, entries in self.losses.items()},
            "states": self.states,
            "not_rehearsed": [
                *NOT_REHEARSED,
                *jobs,
                "The time of nodes and pods goes by four times as fast as it would. Pods that an update replaces end "
                f"after all of their grace, those that are drained after {DRAIN_GRACE_SECONDS} s of it, and so do "
                "those of StatefulSets and DaemonSets, which are replaced in their places. Preempted pods end at once.",
                f"preflight passes over {', '.join(site.NOT_SERVED)}.",
            ],
            "seconds": {**self.seconds, "all": round(time.monotonic() - self._began, 1)},
        }


def _loss(loss: Loss) -> dict[str, Any]:
    return {
        "what": loss.what,
        "moved": loss.moved,
        "waiting": snapshots.told(loss.waiting),
        "seconds": loss.seconds,
        "refusals": loss.refusals,
        "unfinished": list(loss.unfinished),
        "before": loss.before,
        "after": loss.after,
    }
