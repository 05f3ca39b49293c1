# Locust with the project's users. Build it from the root of the project, after `make protos`, with the wheels of
# requirements/load.txt in var/wheelhouse/load (pip download --require-hashes --no-deps --only-binary :all:):
#   docker build -f deploy/images/load.Dockerfile --build-arg BASE=jikimi/base:0.1.0 -t jikimi/load:0.1.0 .
ARG BASE
FROM ${BASE}
COPY var/wheelhouse/load /wheels
COPY requirements/load.txt /lock.txt
RUN python -m pip install --no-index --find-links /wheels --require-hashes --only-binary :all: --no-cache-dir --quiet -r /lock.txt
COPY tests/load /srv/jikimi/app/tests/load
COPY protos/gen /srv/jikimi/app/protos
ENV PYTHONPATH=/srv/jikimi/app:/srv/jikimi/app/protos
USER 65532:65532
WORKDIR /srv/jikimi/app
ENTRYPOINT ["locust", "-f", "tests/load/locustfile.py"]
