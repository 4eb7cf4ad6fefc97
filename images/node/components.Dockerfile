# The images that a node of the local cluster carries, where the originals can't be pulled. One file system for all (so the
# node unpacks it once); they differ in the program that starts.
ARG BASE=debian:bookworm-slim

FROM scratch AS pause
COPY pause/ /
USER 65535:65535
ENTRYPOINT [ "/pause" ]

FROM ${BASE} AS component
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends iptables ipset iproute2 conntrack kmod ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    # For kube-router, under the names that it calls.
    && mkdir /usr/local/lib/iptables-legacy \
    && for program in iptables iptables-save iptables-restore; do ln -s /usr/sbin/xtables-legacy-multi "/usr/local/lib/iptables-legacy/$program"; done
COPY components/ /usr/local/bin/

FROM component AS coredns
ENTRYPOINT [ "coredns" ]

FROM component AS metrics-server
USER 1000:1000
ENTRYPOINT [ "metrics-server" ]
