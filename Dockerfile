# Two images of one distribution: `operator`, the control plane, and `worker`, the base that an application extends:
#
#     FROM fibflow-worker
#     COPY . .
#     ENV FIBFLOW_APP=shop.tasks:app
#
# BASE is any image with Python 3.11 or newer and pip, the same for building and for running; pin it by its digest. What
# builds stays behind: an image gets a virtual environment, which pip, where the base has it, installs into. Of this, what
# nobody imports is left out: the bytecode of languages that are coloured, the half of a client that is asynchronous. What an
# image is made of besides its base, it says itself: /opt/fibflow/sbom.cdx.json (CycloneDX).
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY constraints.txt ./
RUN python -m venv --without-pip /build && pip --python /build install --constraint constraints.txt hatchling cyclonedx-bom

# What it depends on comes first: it changes less often than the code.
FROM build AS worker-build
COPY pyproject.toml ./
COPY tools/requirements.py tools/
RUN python -m venv --without-pip /opt/fibflow \
    && python tools/requirements.py postgres > requirements.txt \
    && pip --python /opt/fibflow install --constraint constraints.txt --requirement requirements.txt
COPY . .
RUN /build/bin/python -m hatchling build --target wheel --directory /wheel \
    && pip --python /opt/fibflow install --no-deps /wheel/*.whl \
    && rm -r /opt/fibflow/lib/python3*/site-packages/pygments/lexers/__pycache__ \
    && /build/bin/cyclonedx-py environment --output-reproducible --output-file /opt/fibflow/sbom.cdx.json /opt/fibflow/bin/python

FROM worker-build AS operator-build
RUN python tools/requirements.py operator > requirements.txt \
    && pip --python /opt/fibflow install --constraint constraints.txt --requirement requirements.txt \
    && rm -r /opt/fibflow/lib/python3*/site-packages/kubernetes/aio \
    && /build/bin/cyclonedx-py environment --output-reproducible --output-file /opt/fibflow/sbom.cdx.json /opt/fibflow/bin/python

FROM ${BASE} AS run
LABEL org.opencontainers.image.title="fibflow" org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/fibflow/bin:$PATH PIP_PYTHON=/opt/fibflow/bin/python \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app

FROM run AS operator
COPY --from=operator-build /opt/fibflow /opt/fibflow
USER 10001:10001
EXPOSE 8080
ENTRYPOINT ["python", "-m", "fibflow_operator"]

FROM run AS worker
COPY --from=worker-build /opt/fibflow /opt/fibflow
USER 10001:10001
EXPOSE 8080
ENTRYPOINT ["python", "-m", "fibflow_worker"]
