# gancore in a container, on the CPU or on CUDA. Untried as an image: no Docker daemon was at hand.
#
#   docker build -t gancore .
#   mkdir -p runs
#   docker run --rm -v "$PWD/runs:/work/runs" gancore train mnist
#   docker run --rm --gpus all -v "$PWD/runs:/work/runs" gancore train mnist --device cuda
#
# With torch for the CPU alone the image is several GB smaller: --build-arg TORCH_INDEX=URL, where URL is the index that
# PyTorch's page of installation names for the CPU.
# The folder `runs` must be writable for the user 1000. Downloaded data is kept with: -v gancore-cache:/cache

FROM python:3.12-slim

# The package index of torch and torchvision, if it is not that of pip.
ARG TORCH_INDEX=""

RUN useradd --uid 1000 --create-home gancore \
    && install -d -o gancore -g gancore /work/runs /cache

COPY pyproject.toml README.md LICENSE /src/
COPY gancore /src/gancore
COPY plugins /src/plugins
COPY cli /src/cli
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch torchvision \
    && pip install --no-cache-dir "/src[hdf5,parquet,tensorboard]" \
    && rm -r /src

ENV GANCORE_CACHE=/cache
USER gancore
WORKDIR /work
VOLUME ["/work/runs", "/cache"]
ENTRYPOINT ["gancore"]
CMD ["--help"]
