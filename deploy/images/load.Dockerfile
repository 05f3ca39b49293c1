# Locust with the project's users. Build it from the root of the project, after `make protos`, with the wheels of
# requirements/load.txt in var/wheelhouse/load (`make wheelhouse SERVICES=load`):
#   docker build -f deploy/images/load.Dockerfile --build-arg BASE=jikimi/base:0.1.0 --build-arg VERSION=0.1.0 \
#     --build-arg REVISION=$(git rev-parse HEAD) -t jikimi/load:0.1.0 .
ARG BASE
FROM ${BASE} AS build
COPY var/wheelhouse/load /wheels
COPY requirements/load.txt /lock.txt
RUN python -m venv /srv/jikimi/venv
RUN /srv/jikimi/venv/bin/python -m pip install --no-index --find-links /wheels --require-hashes --only-binary :all: --no-cache-dir --no-compile --quiet -r /lock.txt
COPY tests/load /srv/jikimi/app/tests/load
COPY protos/gen /srv/jikimi/app/protos
COPY var/sbom/load.cdx.json /srv/jikimi/sbom.cdx.json
RUN /srv/jikimi/venv/bin/python -m pip uninstall --quiet --yes pip setuptools
RUN /srv/jikimi/venv/bin/python -m compileall -q /srv/jikimi

FROM ${BASE}
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="jikimi/load" org.opencontainers.image.version="${VERSION}" org.opencontainers.image.revision="${REVISION}"
COPY --from=build /srv/jikimi /srv/jikimi
ENV PYTHONPATH=/srv/jikimi/app:/srv/jikimi/app/protos
USER 65532:65532
WORKDIR /srv/jikimi/app
ENTRYPOINT ["/srv/jikimi/venv/bin/python", "-m", "locust", "-f", "tests/load/locustfile.py"]
CMD ["--help"]
