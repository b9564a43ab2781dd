# The pipeline's own image: workers, audit sink and command line. Nothing secret goes in, at build time or later.
#
# The base is pinned by version. To pin the bytes too, append the digest that your registry shows for the tag:
#   docker buildx imagetools inspect python:3.11.14-slim-bookworm     ->   FROM python:3.11.14-slim-bookworm@sha256:...
FROM python:3.11.14-slim-bookworm AS build
WORKDIR /src
# For the compiled codec and names; the image itself has no compiler.
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/ptr
# Packages first: this layer changes with the lock file only.
COPY requirements.lock ./
RUN /opt/ptr/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --only-binary :all: -r requirements.lock
COPY setup.cfg setup.py pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY tables tables
COPY connectors connectors
COPY agents agents
COPY pipeline pipeline
RUN /opt/ptr/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation . \
    && cd / && /opt/ptr/bin/python -c "from schemas import native; from pipeline.stages import native_names, native_windows; from connectors.sinks import native_copying; from connectors.privacy import native_sealing"

FROM python:3.11.14-slim-bookworm
LABEL org.opencontainers.image.title="payment-pipeline" org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --system --gid 10001 ptr \
    && useradd --system --uid 10001 --gid ptr --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin ptr \
    && install --directory --owner ptr --group ptr --mode 0700 /var/lib/ptr
COPY --from=build /opt/ptr /opt/ptr
COPY docker/health.py /opt/ptr/health.py
ENV PATH=/opt/ptr/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PTR_DATADIR=/var/lib/ptr/worker \
    PTR_WEB_PORT=8080
USER 10001:10001
WORKDIR /var/lib/ptr
VOLUME /var/lib/ptr
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "/opt/ptr/health.py", "worker"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["ptr"]
CMD ["worker"]
