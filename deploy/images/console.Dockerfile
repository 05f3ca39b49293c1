# The command line, for what runs in a cluster by itself: the gate's judgement, reports, probes. Build it from the root of
# the project, after `make protos wheelhouse`:
#   docker build -f deploy/images/console.Dockerfile --build-arg BASE=jikimi/base:0.1.0 --build-arg VERSION=0.1.0 \
#     --build-arg REVISION=$(git rev-parse HEAD) -t jikimi/console:0.1.0 .
# It holds no service and no model: verbs that need one (eval, scan, up) are not for it.
ARG BASE
FROM ${BASE} AS build
COPY var/wheelhouse/console /wheels
COPY requirements/services/console.txt /lock.txt
RUN python -m venv /srv/jikimi/venv
RUN /srv/jikimi/venv/bin/python -m pip install --no-index --find-links /wheels --require-hashes --only-binary :all: --no-cache-dir --no-compile --quiet -r /lock.txt
COPY services/__init__.py /srv/jikimi/app/services/__init__.py
COPY services/chassis /srv/jikimi/app/services/chassis
COPY services/console /srv/jikimi/app/services/console
COPY protos/gen/misuse /srv/jikimi/app/misuse
COPY protos/gen/jikimi_client /srv/jikimi/app/jikimi_client
COPY var/sbom/console.cdx.json /srv/jikimi/sbom.cdx.json
RUN /srv/jikimi/venv/bin/python -m pip uninstall --quiet --yes pip setuptools
RUN /srv/jikimi/venv/bin/python -m compileall -q /srv/jikimi

FROM ${BASE}
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="jikimi/console" org.opencontainers.image.version="${VERSION}" org.opencontainers.image.revision="${REVISION}"
COPY --from=build /srv/jikimi /srv/jikimi
ENV PYTHONPATH=/srv/jikimi/app
USER 65532:65532
WORKDIR /srv/jikimi/app
ENTRYPOINT ["/srv/jikimi/venv/bin/python", "-m", "services.console"]
CMD ["--help"]
