# What the images of all services stand on. Build it first, from the root of the project:
#   docker build -f deploy/images/base.Dockerfile --build-arg PYTHON_IMAGE=…@sha256:… -t jikimi/base:0.1.0 .
# PYTHON_IMAGE is Python 3.11 on Debian (docker.io/library/python:3.11-slim-bookworm), named by the digest that you have
# looked at. It has no default: a digest that nobody verified would be worse than none.
ARG PYTHON_IMAGE
FROM ${PYTHON_IMAGE}
ARG PYTHON_IMAGE
RUN case "${PYTHON_IMAGE}" in *@sha256:*) ;; *) echo "PYTHON_IMAGE has to be named by its digest" >&2; exit 1 ;; esac
RUN groupadd --gid 65532 jikimi && useradd --uid 65532 --gid 65532 --no-create-home --shell /usr/sbin/nologin jikimi
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PYTHONHASHSEED=random
LABEL org.opencontainers.image.vendor="Jikimi" org.opencontainers.image.base.name="${PYTHON_IMAGE}"
