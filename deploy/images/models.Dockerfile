# The model files, as a volume of the detector's pods. `make models` fetches and checks them.
#   docker build -f deploy/images/models.Dockerfile -t jikimi/models:0.1.0 .cache/models
# The repository of a Triton server is built in the same way from what `jikimi model lay --out DIR` writes:
#   docker build -f deploy/images/models.Dockerfile -t jikimi/model-repository:0.1.0 DIR
FROM scratch
COPY . /
