# tinyvla-server: the shipped policy over HTTP (8000) and ZeroMQ (5570).
#
#   docker build -t tinyvla-server .                                  on processors
#   docker build -t tinyvla-server --build-arg RUNTIME=gpu .          on a GPU; run with --gpus all
#   docker run -p 8000:8000 -p 5570:5570 tinyvla-server               prints the token that it made
#   docker run -e TINYVLA_TOKEN=... -v ./mine:/bundle:ro ...          own token, own policy
#
# Every flag of `tinyvla serve` may be appended, or given as TINYVLA_... in the environment.

# Any image with Python 3.11 or later as python3, and venv; both stages must have the same.
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
# cpu installs onnxruntime; gpu installs onnxruntime-gpu with the CUDA libraries it needs.
ARG RUNTIME=cpu
# The policy directory that goes into the image.
ARG BUNDLE=bundles/metaworld8
WORKDIR /src
RUN python3 -m venv /opt/tinyvla
ENV PATH=/opt/tinyvla/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# Dependencies are a layer of their own: a change of the code does not fetch them again.
COPY pyproject.toml constraints.txt ./
RUN case "$RUNTIME" in cpu|gpu) ;; *) echo "RUNTIME is cpu or gpu, not '$RUNTIME'" >&2; exit 2 ;; esac \
 && python3 -c "import sys, tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*project['dependencies'], *project['optional-dependencies'][sys.argv[1]], sep='\n')" "$RUNTIME" > needed.txt \
 && pip install -c constraints.txt -r needed.txt
# The CUDA libraries come as Python packages, where the loader does not look by itself.
RUN mkdir /opt/tinyvla/cuda \
 && find /opt/tinyvla/lib -path '*/nvidia/*/lib/*.so*' -exec ln -sf -t /opt/tinyvla/cuda {} +

COPY README.md LICENSE tinyvla.py ./
COPY policy policy
COPY service service
RUN pip install --no-deps . && pip uninstall --yes --quiet setuptools pip
COPY deploy/healthcheck.py /opt/tinyvla/healthcheck.py
COPY ${BUNDLE} /bundle
# Whatever the modes were where the image is built, the server's own user must be able to read.
RUN chmod -R a+rX /bundle /opt/tinyvla


FROM ${BASE}
LABEL org.opencontainers.image.title="tinyvla-server" \
      org.opencontainers.image.description="Real-time inference for robot policies over HTTP and ZeroMQ" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/tinyvla /opt/tinyvla
COPY --from=build /bundle /bundle
# ONNX Runtime from 1.29 on reports its use to its maker unless told not to.
ENV PATH=/opt/tinyvla/bin:$PATH \
    ORT_DISABLE_TELEMETRY=1 \
    LD_LIBRARY_PATH=/opt/tinyvla/cuda${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    TINYVLA_BUNDLE=/bundle \
    TINYVLA_HOST=0.0.0.0 \
    TINYVLA_PORT=8000 \
    TINYVLA_ZMQ_PORT=5570
WORKDIR /tmp
# A number, so that a cluster can see that it is not root.
USER 10001:10001
EXPOSE 8000 5570
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python3", "/opt/tinyvla/healthcheck.py"]
ENTRYPOINT ["tinyvla", "serve"]
