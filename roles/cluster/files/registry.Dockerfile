ARG BASE=debian:bookworm-slim
FROM ${BASE}
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends docker-registry \
    && rm -rf /var/lib/apt/lists/*
ENTRYPOINT ["docker-registry", "serve", "/etc/docker/registry/config.yml"]
