# The server, without games. GPU by default; for the CPU name a package index that has CPU builds
# of torch:    docker build --build-arg TORCH_INDEX=... --tag understudy:cpu .
# torch's own packages bring CUDA along: the base needs none, and runs without a GPU too.
ARG BASE=python:3.11-slim
FROM ${BASE}

# A user without privileges, and a folder for runs that is theirs: a new volume mounted there
# takes over its owner.
RUN useradd --create-home --uid 1000 understudy && install -d -o understudy /runs

# torch alone, since the index may lack other packages. Empty: pip's default, which has CUDA.
WORKDIR /app
COPY constraints.txt .
ARG TORCH_INDEX=
RUN pip install --no-cache-dir --no-deps ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} \
        "$(grep '^torch==' constraints.txt)"

COPY pyproject.toml README.md LICENSE ./
COPY clients/python clients/python
COPY protocol protocol
COPY config config
COPY agent agent
COPY server server
RUN pip install --no-cache-dir --constraint constraints.txt ./clients/python .
COPY scripts/container-entry /usr/local/bin/

# In a container, the port is reached from outside or not at all.
ENV UNDERSTUDY_SERVER__HOST=0.0.0.0
EXPOSE 7777
VOLUME /runs
# Not /app, so that what is imported is what was installed; a relative --run lands in the volume.
WORKDIR /runs
USER understudy
ENTRYPOINT ["container-entry"]
CMD ["serve", "--run", "/runs/default"]
