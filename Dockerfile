# The server, without games. GPU by default; for the CPU name a package index that has CPU builds
# of torch:    docker build --build-arg TORCH_INDEX=... --tag understudy:cpu .
# torch's own packages bring CUDA along: the base needs none, and runs without a GPU too.
# pinned 2026-11-28
ARG BASE=python:3.11-slim-bookworm

# What installs: of this stage, nothing but /opt/understudy gets into the image.
FROM ${BASE} AS build
WORKDIR /build
# Without a pip of its own, so that none is in the image's environment.
RUN python -m venv --without-pip /opt/understudy

# torch alone, since the index may lack other packages, and by its version, since the index may have a
# build of its own. Empty: pip's default, which has CUDA.
COPY constraints.txt .
ENV PIP_CONSTRAINT=/build/constraints.txt
ARG TORCH_INDEX=
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/understudy install --no-deps ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} \
        "$(grep '^torch==' constraints.txt)"

# All else by hash (docs/supply-chain.md); what builds the project, beside the image's environment.
COPY requirements.lock .
COPY scripts/packages/lockfile.py scripts/packages/
RUN --mount=type=cache,target=/root/.cache/pip \
    python scripts/packages/lockfile.py server websocket > server.txt && \
    python scripts/packages/lockfile.py build > build.txt && \
    pip --python /opt/understudy install --require-hashes --no-deps --requirement server.txt && \
    pip install --require-hashes --no-deps --target tools --requirement build.txt

COPY pyproject.toml README.md LICENSE ./
COPY clients/python clients/python
COPY clients/javascript clients/javascript
COPY protocol protocol
COPY config config
COPY agent agent
COPY server server
# With an index for what torch's build brings along (CUDA), in the versions that it pins itself.
RUN --mount=type=cache,target=/root/.cache/pip \
    PYTHONPATH=/build/tools pip --python /opt/understudy install --no-build-isolation \
        ./clients/python .

FROM ${BASE}
# A user without privileges, and a folder for runs that is theirs: a new volume mounted there
# takes over its owner.
RUN useradd --create-home --uid 1000 understudy && install -d -o understudy /runs
COPY --from=build /opt/understudy /opt/understudy
COPY scripts/container-entry scripts/container-health /usr/local/bin/

# In a container, the ports are reached from outside or not at all. So the server wants a token: a file
# that UNDERSTUDY_SERVER__TOKEN_FILE names (see docker-compose.yml), or else it does not start.
ENV PATH=/opt/understudy/bin:/usr/local/bin:/usr/bin:/bin
ENV UNDERSTUDY_SERVER__HOST=0.0.0.0
ENV UNDERSTUDY_SERVER__HTTP_HOST=0.0.0.0
ENV UNDERSTUDY_SERVER__HTTP_PORT=8080
EXPOSE 7777 8080
VOLUME /runs
# A relative --run lands in the volume.
WORKDIR /runs
USER understudy
# 200 of /healthz: the supervisor's loop goes round, also while a run is being loaded; /readyz says
# when games can play.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["container-health"]
ENTRYPOINT ["container-entry"]
CMD ["serve", "--run", "/runs/default"]
