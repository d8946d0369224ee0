# A server of the model that comes with the project.
#
#   docker build --build-arg PIP_EXTRA_INDEX_URL=ADDRESS -t mit-semseg .
#
# ADDRESS is where PyTorch's own wheels are, see the installation page of its site: those for the CPU give the smallest
# image, others are for a CUDA version. Without it, pip's default gives wheels with CUDA.
#
#   docker run -p 127.0.0.1:8000:8000 mit-semseg
#
# Models of your own: docker run -v "$PWD/ckpt:/models:ro" ... mit-semseg serve --host 0.0.0.0 /models/mine
# GPUs: docker run --gpus all ...
FROM python:3.12-slim AS build
ARG PIP_EXTRA_INDEX_URL
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
# Before the source, so that a change of the source does not download torch again.
RUN pip install --no-cache-dir torch torchvision
WORKDIR /source
COPY pyproject.toml setup.py requirements.txt README.md LICENSE ./
COPY mit_semseg ./mit_semseg
COPY config ./config
COPY data ./data
COPY ckpt ./ckpt
RUN pip install --no-cache-dir '.[lite0,serve]'

FROM python:3.12-slim
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
RUN useradd --create-home --uid 1000 semseg
USER semseg
WORKDIR /home/semseg
EXPOSE 8000
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
# Inside a container, 127.0.0.1 cannot be reached from outside of it.
ENTRYPOINT ["mit-semseg"]
CMD ["serve", "--host", "0.0.0.0"]
