# The one image of all programs.
#
#   make image                                       # on python:3.12-slim
#   make image BASE=toolkeeper/base-python:bookworm  # on another base
#   docker build -t toolkeeper:0.1.0 .               # by hand
#
# BASE needs Python 3.11 or newer with venv, and certificates. Where packages are fetched through a proxy, from an index of
# one's own, or behind another certificate authority, `make image` lays this machine's settings beside the sources, in
# build-settings/; they reach the first stage, which is thrown away.
#
# It runs as nobody, on a read-only root with a writable /tmp. A node agent needs more: root, the host's network, the
# Docker socket, iptables in the base, and a volume for its state.
ARG BASE=python:3.12-slim

FROM ${BASE} AS build
WORKDIR /src
# The pattern matches nothing where there are no settings.
COPY requirements.lock build-setting[s] /run/toolkeeper/
RUN touch /run/toolkeeper/settings && . /run/toolkeeper/settings \
    && python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/toolkeeper \
    && /opt/pip/bin/pip --python /opt/toolkeeper/bin/python install --quiet --disable-pip-version-check \
       --no-cache-dir --require-hashes -r /run/toolkeeper/requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
RUN /opt/pip/bin/pip --python /opt/toolkeeper/bin/python install --quiet --disable-pip-version-check \
       --no-cache-dir --no-index --no-deps --no-build-isolation . \
    && /opt/pip/bin/pip --python /opt/toolkeeper/bin/python uninstall --quiet --yes hatchling editables \
    && /opt/toolkeeper/bin/toolkeeper version

FROM ${BASE}
# Nobody in here needs to become somebody else.
RUN find / -xdev -type f -perm /6000 -exec chmod a-s {} +
COPY --from=build /opt/toolkeeper /opt/toolkeeper
ENV PATH=/opt/toolkeeper/bin:${PATH} HOME=/tmp LANG=C.UTF-8 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
WORKDIR /tmp
ENTRYPOINT ["toolkeeper"]
LABEL org.opencontainers.image.title="Toolkeeper" \
      org.opencontainers.image.description="Keeps declared MCP servers running, and connects agents to the tools they were granted." \
      org.opencontainers.image.licenses="Apache-2.0"
