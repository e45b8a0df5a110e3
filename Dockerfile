# gancore in a container. Untried as an image: no Docker daemon was at hand. The lines of pip were run in a new
# environment, with torch from PyPI, because the index of torch could not be reached either.
#
#   docker build -t gancore .
#   docker run --rm -v "$PWD/runs:/work/runs" gancore train mnist
#   docker build -t gancore:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
#   docker run --rm --gpus all -v "$PWD/runs:/work/runs" gancore:cuda train mnist --device cuda
#
# The folder `runs` must be writable for the user 1000. Downloaded data is kept with: -v gancore-cache:/cache

FROM python:3.12-slim

# Where torch and torchvision come from: without CUDA, which makes the image several GB smaller.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

RUN useradd --uid 1000 --create-home gancore \
    && install -d -o gancore -g gancore /work/runs /cache

COPY pyproject.toml README.md LICENSE /src/
COPY gancore /src/gancore
COPY plugins /src/plugins
COPY cli /src/cli
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" torch torchvision \
    && pip install --no-cache-dir "/src[hdf5,parquet,tensorboard]" \
    && rm -r /src

ENV GANCORE_CACHE=/cache
USER gancore
WORKDIR /work
VOLUME ["/work/runs", "/cache"]
ENTRYPOINT ["gancore"]
CMD ["--help"]
