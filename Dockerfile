# docker build -t emorl_lite .
# docker run --rm -p 8888:8888 emorl_lite                    JupyterLab: open the address that it prints
# docker run --rm emorl_lite tutorial --only 00              any other command: test --quick, map --help, ...
# What should outlive a container lies in two folders: -v emorl_runs:/app/emorl_lite/runs, and the same with my_notebooks.
FROM python:3.11-slim

RUN apt-get update \
    && apt-get install -y --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 --shell /bin/bash student \
    && install -d -o student -g student /app/environment /app/emorl_lite
USER student

# The pins, torch without CUDA, in an environment of the user's own.
ENV PATH=/app/environment/bin:$PATH PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1
RUN python -m venv /app/environment
WORKDIR /app/emorl_lite
COPY --chown=student:student . .
RUN python -m emorl_lite setup --here && mkdir -p runs my_notebooks

EXPOSE 8888
ENTRYPOINT ["python", "-m", "emorl_lite"]
CMD ["lab", "--everywhere", "--no-browser"]
