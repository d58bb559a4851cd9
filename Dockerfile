# realsr in a container: docs/use/install.md#docker
#
#   docker build --tag realsr .                                      # CUDA and CPU
#   docker build --build-arg TORCH_INDEX=URL --tag realsr:cpu .      # CPU only
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
# Extras of pyproject.toml. sr-vulkan-model-*, of `models`, are data.
ARG EXTRAS=models,fast
# The package index of PyTorch's CPU builds. Empty: pip's default index, whose Linux builds of torch
# for x86-64 contain CUDA.
ARG TORCH_INDEX=
WORKDIR /source
RUN python -m venv /opt/realsr
ENV PATH=/opt/realsr/bin:$PATH
COPY constraints.txt ./
# A layer of its own, so that a change of the code does not download torch again.
RUN if [ -n "$TORCH_INDEX" ]; then \
      pip install --no-cache-dir --no-deps --constraint constraints.txt \
        --index-url "$TORCH_INDEX" torch torchvision; \
    fi \
    && pip install --no-cache-dir --constraint constraints.txt torch torchvision
COPY pyproject.toml README.md LICENSE ./
COPY conf ./conf
COPY src ./src
RUN pip install --no-cache-dir --constraint constraints.txt ".[${EXTRAS}]"

FROM python:${PYTHON}-slim
COPY --from=build /opt/realsr /opt/realsr
# Any user may write into the home folder, which holds downloaded weights and compiled code.
RUN useradd --uid 1000 --no-create-home --home-dir /cache realsr \
    && mkdir --mode 1777 /cache
ENV PATH=/opt/realsr/bin:$PATH HOME=/cache
USER 1000
WORKDIR /data
ENTRYPOINT ["realsr"]
CMD ["--help"]
