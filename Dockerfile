# One image for API, worker and migration; the command selects which.
ARG PYTHON=3.13
ARG UV=0.13.9

FROM astral/uv:${UV} AS uv

FROM python:${PYTHON}-slim-trixie AS build
COPY --from=uv /uv /usr/local/bin/uv
# Compile bytecode here: faster starts, and nothing has to be written at run time.
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never UV_PROJECT_ENVIRONMENT=/opt/venv
WORKDIR /srv/fleek
# Dependencies first, in exact versions (`constraint-dependencies`): this layer is cached until pyproject.toml changes.
COPY pyproject.toml ./
# Traces and error reports, so that setting SENTRY_DSN needs no rebuild. `--build-arg EXTRAS=` leaves them out.
ARG EXTRAS="--extra otel --extra sentry"
RUN --mount=type=cache,target=/root/.cache/uv \
    uv sync --no-default-groups ${EXTRAS} --no-install-project \
    # the packages' own tests are not needed
    && find /opt/venv -type d -name tests -prune -exec rm -rf {} +
COPY README.md LICENSE ./
# Then the project's version and entry points; refreshed in case the cache holds older ones. Its code is copied below and
# found through PYTHONPATH: changing it does not invalidate the layer of the packages.
RUN --mount=type=cache,target=/root/.cache/uv \
    uv sync --no-default-groups ${EXTRAS} --refresh-package fleek && rm uv.lock /opt/venv/.lock
COPY alembic.ini ./
COPY alembic alembic
COPY fleek fleek
COPY app app
RUN python -m compileall -q alembic app fleek

FROM python:${PYTHON}-slim-trixie
# No packages are installed at run time.
RUN rm -rf /usr/local/lib/python3*/site-packages/pip* /usr/local/lib/python3*/ensurepip /usr/local/bin/pip* \
    && groupadd --system --gid 10001 fleek \
    && useradd --system --uid 10001 --gid fleek --home-dir /tmp --no-create-home --shell /usr/sbin/nologin fleek
COPY --from=build /opt/venv /opt/venv
COPY --from=build /srv/fleek /srv/fleek
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/srv/fleek PYTHONUNBUFFERED=1
WORKDIR /srv/fleek
# By number: Kubernetes cannot tell whether a name is root.
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --start-interval=2s \
    CMD ["python", "-m", "app.cli.checks.api_health"]
CMD ["uvicorn", "app.main:app", "--host", "0.0.0.0", "--port", "8000", \
     "--no-access-log", "--timeout-graceful-shutdown", "10"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Fleek" \
      org.opencontainers.image.description="The media-generation backend: API, worker and migration" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
