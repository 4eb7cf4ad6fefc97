"""The dashboards: what stands on them, and the queries.

Names of series: Envoy's statistics as /stats/prometheus spells them; images/controller/README.md and
images/runtime/README.md; redis_exporter 1.69, HAProxy 3.0's own, postgres_exporter 0.17, Patroni 4.0's own,
pgbouncer_exporter 0.10, pgbackrest_exporter 0.19; node_exporter 1.9, kube-state-metrics, the kubelet and its cAdvisor.
Limits are the thresholds of operations that the alerts have, too.
"""

from __future__ import annotations

from panels import Dashboard, Panel

EDGE = 'envoy_http_conn_manager_prefix="edge"'
# cAdvisor has a series of each pod as a whole beside those of its containers.
CONTAINERS = 'container!="",container!="POD"'


REDIS_SERVERS = 'job="redis"'


def rate(metric: str, by: str = "", where: str = "") -> str:
    """How often a second, in sum, or in sum by these labels."""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({metric}{{{where}}}[$__rate_interval]))"


def quantile(of: float, histogram: str, by: str = "", where: str = "") -> str:
    """Below what this share of a histogram's observations was, by these labels."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({of}, {rate(f'{histogram}_bucket', labels, where)})"


def quantiles(histogram: str, where: str = "", factor: str = "") -> dict[str, str]:
    """The median and what one in 20 and one in 100 exceed, by legend."""
    return {f"p{of * 100:.0f}": quantile(of, histogram, where=where) + factor for of in (0.5, 0.95, 0.99)}


def found(hits: str, misses: str, where: str = "") -> dict[str, str]:
    """The share of look-ups that found something, by legend."""
    return {"found": f"{rate(hits, where=where)} / ({rate(hits, where=where)} + {rate(misses, where=where)})"}


EDGE_REQUESTS = rate("envoy_http_downstream_rq_xx", where=EDGE)
EDGE_ERRORS = rate("envoy_http_downstream_rq_xx", where=f'{EDGE},envoy_response_code_class="5"')
EDGE_BY_CLASS = {
    "{{envoy_response_code_class}}xx": rate("envoy_http_downstream_rq_xx", "envoy_response_code_class", EDGE)
}
EDGE_SECONDS = quantiles("envoy_http_downstream_rq_time", EDGE, " / 1000")
CONTROLLER_ERRORS = rate("lambda_controller_requests_total", where='status="5xx"')
PLACES_USED = "sum by (language) (lambda_runtime_running) / sum by (language) (lambda_runtime_concurrency_limit)"
PROCESSOR = rate("container_cpu_usage_seconds_total", "namespace", CONTAINERS)
MEMORY = f"sum by (namespace) (container_memory_working_set_bytes{{{CONTAINERS}}})"

SYSTEM_OVERVIEW = Dashboard(
    "system-overview",
    "System overview",
    "Whether the platform serves, how fast, and what is used up.",
    (
        Panel(
            "Requests served",
            "percentunit",
            {"served": f"1 - ({EDGE_ERRORS} or vector(0)) / {EDGE_REQUESTS}"},
            "Share of the edge's answers that are no 5xx.",
            (0.99, 0.999),
            "number",
            good="above",
        ),
        Panel("Requests", "reqps", {"requests": EDGE_REQUESTS}, "At the edge.", look="number"),
        Panel(
            "Targets down",
            "none",
            {"down": "count(up == 0) or vector(0)"},
            "What Prometheus cannot scrape.",
            (1,),
            "number",
        ),
        Panel(
            "Alerts that fire",
            "none",
            {"alerts": 'count(ALERTS{alertstate="firing",alertname!="Watchdog"}) or vector(0)'},
            "",
            (1,),
            "number",
        ),
        Panel("Answers of the edge", "reqps", EDGE_BY_CLASS, "By class of status.", look="stack", statuses=True),
        Panel("Time to the edge's answer", "s", EDGE_SECONDS, "Scripts included.", (1,)),
        Panel(
            "Places used",
            "percentunit",
            {"{{language}}": PLACES_USED},
            "Of those that runtimes have for scripts.",
            (0.8,),
            most=1,
        ),
        Panel(
            "Restarts of containers",
            "short",
            {"{{namespace}}": "sum by (namespace) (increase(kube_pod_container_status_restarts_total[1h]))"},
            "In the hour before.",
            (3,),
        ),
        Panel("Processors", "short", {"{{namespace}}": PROCESSOR}, "Used by each namespace, in cores.", look="stack"),
        Panel("Memory", "bytes", {"{{namespace}}": MEMORY}, "Working set of each namespace.", look="stack"),
    ),
)

RUNTIME_PERFORMANCE = Dashboard(
    "runtime-performance",
    "Runtime performance",
    "How fast scripts run, and what they wait for.",
    (
        Panel(
            "Executions",
            "reqps",
            {"{{language}} {{outcome}}": rate("lambda_runtime_executions_total", "language, outcome")},
            "Rejected ones found no place, and no script ran.",
        ),
        Panel(
            "Time of executions, p95",
            "s",
            {"{{language}}": quantile(0.95, "lambda_runtime_execution_duration_seconds", "language")},
            "From request to answer.",
            (1,),
        ),
        Panel(
            "Time of scripts, p95",
            "s",
            {"{{language}}": quantile(0.95, "lambda_runtime_script_duration_seconds", "language")},
            "Of those that succeeded, without start and compilation.",
        ),
        Panel(
            "Wait for a place, p95",
            "s",
            {"{{language}}": quantile(0.95, "lambda_runtime_queue_wait_seconds", "language")},
            limits=(0.5,),
        ),
        Panel("Places used", "percentunit", {"{{language}}": PLACES_USED}, limits=(0.8,), most=1),
        Panel("Requests that wait", "short", {"{{language}}": "sum by (language) (lambda_runtime_queued)"}),
        Panel(
            "Starts of processes",
            "ops",
            {"{{from}}": rate("lambda_runtime_process_starts_total", "from")},
            "Kept: used again. Warm: waited for a script. Cold: started for one.",
            look="stack",
        ),
        Panel(
            "Memory of scripts, p95",
            "bytes",
            {"{{language}}": quantile(0.95, "lambda_runtime_script_memory_bytes", "language")},
            "Peak of a script's process.",
        ),
        Panel(
            "Look-ups of compiled Rust",
            "ops",
            {"{{result}}": rate("lambda_runtime_compile_cache_requests_total", "result")},
            "Joined: another request compiles the same script.",
            look="stack",
        ),
        Panel("Compilation of Rust", "s", quantiles("lambda_runtime_compile_duration_seconds")),
    ),
)


def counted(function: str) -> str:
    """What a function of roles/data_services/templates/roles.sql.j2 counts, as Grafana's data source asks for it."""
    return "SELECT * FROM dashboards.%s($__timeFrom(), $__timeTo(), $__interval_ms / 1000.0)" % function  # noqa: S608 - ours


REQUEST_STATISTICS = Dashboard(
    "request-statistics",
    "Request statistics",
    "What is asked of the controller, and how it answers.",
    (
        Panel(
            "Requests by route", "reqps", {"{{route}}": rate("lambda_controller_requests_total", "route")}, look="stack"
        ),
        Panel(
            "Requests by answer",
            "reqps",
            {"{{status}}": rate("lambda_controller_requests_total", "status")},
            look="stack",
            statuses=True,
        ),
        Panel(
            "Time of requests, p95",
            "s",
            {"{{route}}": quantile(0.95, "lambda_controller_request_duration_seconds", "route")},
        ),
        Panel(
            "The controller's own time",
            "s",
            quantiles("lambda_controller_overhead_seconds"),
            "What an execution takes beside its runtime; of p95 at most 50 ms.",
            (0.05,),
        ),
        Panel(
            "Sessions made",
            "ops",
            {"{{language}}": rate("lambda_controller_sessions_created_total", "language")},
            look="stack",
        ),
        Panel("Requests under way", "short", {"{{pod}}": "sum by (pod) (lambda_controller_requests_in_flight)"}),
        Panel(
            "Rows written to the logs",
            "ops",
            {"{{table}}": rate("lambda_controller_records_written_total", "table")},
            look="stack",
        ),
        Panel(
            "Connections to runtimes",
            "ops",
            {"{{event}}": rate("lambda_controller_runtime_connections_total", "event")},
            look="stack",
        ),
        Panel("Executions in the log", "short", {"language": counted("executions")}, "From PostgreSQL.", sql=True),
        Panel("Errors in the log", "short", {"code": counted("errors")}, "From PostgreSQL.", sql=True),
    ),
)

ERROR_RATE = Dashboard(
    "error-rate",
    "Error rate",
    "What fails, where, and why.",
    (
        Panel(
            "Edge",
            "percentunit",
            {"5xx": f"({EDGE_ERRORS} or vector(0)) / {EDGE_REQUESTS}"},
            "Share of 5xx.",
            (0.01,),
            "number",
        ),
        Panel(
            "Controller",
            "percentunit",
            {"5xx": f"({CONTROLLER_ERRORS} or vector(0)) / {rate('lambda_controller_requests_total')}"},
            "Share of 5xx.",
            (0.005,),
            "number",
        ),
        Panel(
            "Scripts",
            "percentunit",
            {
                "failed": rate("lambda_runtime_executions_total", where='outcome="failure"')
                + " / "
                + rate("lambda_runtime_executions_total", where='outcome=~"success|failure"')
            },
            "Share that failed, mostly by what callers wrote.",
            look="number",
        ),
        Panel(
            "Rows given up",
            "short",
            {"rows": "sum(increase(lambda_controller_records_dropped_total[1h])) or vector(0)"},
            "Of the logs in PostgreSQL, in the hour before.",
            (1,),
            "number",
        ),
        Panel(
            "Errors by code",
            "reqps",
            {"{{code}}": rate("lambda_controller_errors_total", "code")},
            "What callers were told.",
        ),
        Panel(
            "Failures of scripts by kind",
            "reqps",
            {"{{kind}}": f"{rate('lambda_runtime_failures_total', 'kind')} > 0"},
            "images/runtime/README.md says what each is.",
        ),
        Panel(
            "Calls of runtimes without a result",
            "reqps",
            {
                "{{language}} {{outcome}}": rate(
                    "lambda_controller_runtime_calls_total", "language, outcome", 'outcome!="ok"'
                )
            },
        ),
        Panel(
            "Refused by limits",
            "reqps",
            {
                "rate limit": rate("envoy_cluster_ratelimit_over_limit"),
                "controller: {{limit}}": rate("lambda_controller_requests_shed_total", "limit"),
                "runtime: {{language}}": rate("lambda_runtime_executions_total", "language", 'outcome="rejected"'),
            },
        ),
        Panel(
            "Errors of Redis and PostgreSQL",
            "ops",
            {
                "Redis: {{kind}}": rate("lambda_controller_redis_errors_total", "kind"),
                "PostgreSQL: {{kind}}": rate("lambda_controller_database_errors_total", "kind"),
            },
            "As the controller met them.",
        ),
        Panel(
            "Speed at which error budgets burn",
            "none",
            {"{{sloth_slo}}": "max by (sloth_slo) (slo:current_burn_rate:ratio)"},
            "At 1 the budget of 30 days is used up after 30 days.",
            (1, 6),
        ),
    ),
)

ENVOY = Dashboard(
    "envoy",
    "Envoy",
    "The edge.",
    (
        Panel("Answers", "reqps", EDGE_BY_CLASS, "By class of status.", look="stack", statuses=True),
        Panel("Time to the answer", "s", EDGE_SECONDS),
        Panel(
            "Time of upstreams, p95",
            "s",
            {
                "{{envoy_cluster_name}}": quantile(0.95, "envoy_cluster_upstream_rq_time", "envoy_cluster_name")
                + " / 1000"
            },
        ),
        Panel(
            "Healthy pods behind it",
            "percentunit",
            {
                "{{envoy_cluster_name}}": "min by (envoy_cluster_name) (envoy_cluster_membership_healthy"
                " / (envoy_cluster_membership_total > 0))"
            },
            "Share of each upstream's, as the Envoy sees it that sees the fewest.",
            (0.5, 1),
            good="above",
            most=1,
        ),
        Panel(
            "Connections",
            "short",
            {"{{pod}}": f"sum by (pod) (envoy_http_downstream_cx_active{{{EDGE}}})"},
            "Of callers, open.",
        ),
        Panel(
            "Handshakes",
            "ops",
            {"made": rate("envoy_listener_ssl_handshake"), "failed": rate("envoy_listener_ssl_connection_error")},
        ),
        Panel(
            "Requests tried again, or held up",
            "reqps",
            {
                "tried again": rate("envoy_cluster_upstream_rq_retry"),
                "no room to wait": rate("envoy_cluster_upstream_rq_pending_overflow"),
                "timed out": rate("envoy_cluster_upstream_rq_timeout"),
            },
        ),
        Panel(
            "Rate limits",
            "reqps",
            {
                "let through": rate("envoy_cluster_ratelimit_ok"),
                "refused": rate("envoy_cluster_ratelimit_over_limit"),
                "not asked": f"{rate('envoy_cluster_ratelimit_error')} or vector(0)",
            },
            "Not asked: the service did not answer, and the request was let through.",
        ),
        Panel("Memory", "bytes", {"{{pod}}": "sum by (pod) (envoy_server_memory_allocated)"}),
        Panel(
            "Certificate ends in",
            "s",
            {"{{pod}}": "min by (pod) (envoy_server_days_until_first_cert_expiring) * 86400"},
            "The first of those that it has.",
            (7 * 86400, 21 * 86400),
            good="above",
        ),
    ),
)

REDIS = Dashboard(
    "redis",
    "Redis",
    "Sessions: servers, Sentinels and HAProxy before them.",
    (
        Panel(
            "Masters",
            "none",
            {"masters": 'count(redis_instance_info{role="master",job="redis"})'},
            "",
            (1, 2),
            "number",
        ),
        Panel("Servers that answer", "none", {"servers": 'sum(redis_up{job="redis"})'}, look="number"),
        Panel(
            "Sentinels that see the master",
            "none",
            {"sentinels": "min(redis_sentinel_master_ok_sentinels)"},
            look="number",
            limits=(2, 3),
            good="above",
        ),
        Panel(
            "Servers that HAProxy sends to",
            "none",
            {"{{proxy}}": "min by (proxy) (haproxy_backend_active_servers)"},
            "One: the master.",
            (1,),
            "number",
            good="above",
        ),
        Panel(
            "Memory used",
            "percentunit",
            {
                "{{pod}}": 'max by (pod) (redis_memory_used_bytes{job="redis"}'
                ' / (redis_memory_max_bytes{job="redis"} > 0))'
            },
            "Of maxmemory.",
            (0.8, 0.95),
            most=1,
        ),
        Panel("Commands", "ops", {"{{pod}}": rate("redis_commands_processed_total", "pod", REDIS_SERVERS)}),
        Panel(
            "Keys found",
            "percentunit",
            found("redis_keyspace_hits_total", "redis_keyspace_misses_total", REDIS_SERVERS),
            "Share of look-ups.",
            most=1,
        ),
        Panel(
            "Keys evicted, connections refused",
            "ops",
            {
                "evicted {{pod}}": rate("redis_evicted_keys_total", "pod", REDIS_SERVERS),
                "refused {{pod}}": rate("redis_rejected_connections_total", "pod", REDIS_SERVERS),
            },
            limits=(0.001,),
        ),
        Panel("Clients", "short", {"{{pod}}": 'sum by (pod) (redis_connected_clients{job="redis"})'}),
        Panel(
            "Lag of replicas",
            "s",
            {"{{slave_ip}}": "max by (slave_ip) (redis_connected_slave_lag_seconds)"},
            limits=(10,),
        ),
    ),
)

POSTGRESQL = Dashboard(
    "postgresql",
    "PostgreSQL",
    "Servers under Patroni, PgBouncer before them, backups behind.",
    (
        Panel("Servers that run", "none", {"servers": "sum(patroni_postgres_running)"}, look="number"),
        Panel("Primaries", "none", {"primaries": "sum(patroni_primary)"}, "", (1, 2), "number", good="between"),
        Panel(
            "Age of the newest backup",
            "s",
            {"age": "min(pgbackrest_backup_since_last_completion_seconds)"},
            "",
            (26 * 3600,),
            "number",
        ),
        Panel(
            "WAL not archived since",
            "s",
            {"age": "max(pg_stat_archiver_last_archive_age and on (pod) patroni_primary == 1)"},
            "Grows while nothing is written, too.",
            look="number",
        ),
        Panel(
            "Connections used",
            "percentunit",
            {"{{pod}}": "sum by (pod) (pg_stat_database_numbackends) / max by (pod) (pg_settings_max_connections)"},
            limits=(0.8,),
            most=1,
        ),
        Panel(
            "Transactions",
            "ops",
            {
                "committed": rate("pg_stat_database_xact_commit", where='datname="lambda"'),
                "rolled back": rate("pg_stat_database_xact_rollback", where='datname="lambda"'),
            },
        ),
        Panel("Lag of standbys", "s", {"{{pod}}": "max by (pod) (pg_replication_lag_seconds)"}, limits=(0.1, 10)),
        Panel(
            "Clients of PgBouncer",
            "short",
            {
                "served": "sum(pgbouncer_pools_client_active_connections)",
                "waiting": "sum(pgbouncer_pools_client_waiting_connections)",
            },
            look="stack",
        ),
        Panel("Size of databases", "bytes", {"{{datname}}": "max by (datname) (pg_database_size_bytes)"}),
        Panel(
            "Blocks read from memory",
            "percentunit",
            found("pg_stat_database_blks_hit", "pg_stat_database_blks_read"),
            most=1,
        ),
    ),
)


def requested(resource: str) -> str:
    """Share of what nodes have that running pods have asked for."""
    return (
        f'sum by (node) (kube_pod_container_resource_requests{{resource="{resource}"}})'
        f' / sum by (node) (kube_node_status_allocatable{{resource="{resource}"}})'
    )


CLUSTER_CAPACITY = Dashboard(
    "cluster-capacity",
    "Cluster capacity",
    "What nodes have left, and what bounds what runs on them.",
    (
        Panel(
            "Processors used",
            "percentunit",
            {"{{node}}": '1 - avg by (node) (rate(node_cpu_seconds_total{mode="idle"}[$__rate_interval]))'},
            limits=(0.8, 0.95),
            most=1,
        ),
        Panel(
            "Memory used",
            "percentunit",
            {"{{node}}": "1 - min by (node) (node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes)"},
            limits=(0.8, 0.95),
            most=1,
        ),
        Panel(
            "Processors asked for",
            "percentunit",
            {"{{node}}": requested("cpu")},
            "By pods, of what the node can give.",
            (0.9,),
        ),
        Panel(
            "Memory asked for",
            "percentunit",
            {"{{node}}": requested("memory")},
            "By pods, of what the node can give.",
            (0.9,),
        ),
        Panel(
            "Fullest file system",
            "percentunit",
            {
                "{{node}}": 'max by (node) (1 - node_filesystem_avail_bytes{fstype!~"tmpfs|ramfs|squashfs"}'
                ' / (node_filesystem_size_bytes{fstype!~"tmpfs|ramfs|squashfs"} > 0))'
            },
            limits=(0.8, 0.9),
            most=1,
        ),
        Panel(
            "Volumes used",
            "percentunit",
            {
                "{{persistentvolumeclaim}}": "max by (namespace, persistentvolumeclaim)"
                " (kubelet_volume_stats_used_bytes / kubelet_volume_stats_capacity_bytes)"
            },
            "Where the volumes' driver tells.",
            (0.8, 0.9),
            most=1,
        ),
        Panel("Pods", "short", {"{{phase}}": "sum by (phase) (kube_pod_status_phase) > 0"}, look="stack"),
        Panel(
            "Autoscalers",
            "percentunit",
            {
                "{{horizontalpodautoscaler}}": "sum by (namespace, horizontalpodautoscaler)"
                " (kube_horizontalpodautoscaler_status_current_replicas)"
                " / sum by (namespace, horizontalpodautoscaler) (kube_horizontalpodautoscaler_spec_max_replicas)"
            },
            "Replicas, of the most that each may make.",
            (1,),
            most=1,
        ),
        Panel(
            "Quotas used",
            "percentunit",
            {
                "{{namespace}} {{resource}}": 'max by (namespace, resource) (kube_resourcequota{type="used"})'
                ' / max by (namespace, resource) (kube_resourcequota{type="hard"} > 0)'
            },
            limits=(0.9,),
            most=1,
        ),
        Panel(
            "Network",
            "Bps",
            {
                "received": rate("container_network_receive_bytes_total", where='pod!=""'),
                "sent": rate("container_network_transmit_bytes_total", where='pod!=""'),
            },
            "Of pods.",
        ),
    ),
)

DASHBOARDS = (
    SYSTEM_OVERVIEW,
    RUNTIME_PERFORMANCE,
    REQUEST_STATISTICS,
    ERROR_RATE,
    ENVOY,
    REDIS,
    POSTGRESQL,
    CLUSTER_CAPACITY,
)
