# All images of Never Sleeps, one target a role. Dependencies are layers of their own before the source, so that a commit which
# changes no lock file builds in two seconds. Nothing is fetched but what the lock file names, with its hash, and Debian's packages.
# Both builders can read it: no feature of BuildKit alone.

ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS dependencies
WORKDIR /build
COPY requirements-uv.lock requirements.lock ./
# uv makes the environment and stays out of it: no bot makes another.
RUN python3 -m venv /tools \
    && /tools/bin/pip install --no-cache-dir --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock \
    && /tools/bin/uv venv --quiet --python "$(command -v python3)" /venv \
    && /tools/bin/uv pip sync --no-cache --quiet --require-hashes --compile-bytecode --python /venv/bin/python requirements.lock \
    && rm -f /venv/bin/uv /venv/bin/uvx

FROM ${PYTHON_IMAGE} AS base
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp BUS_DIR=/bus
# The mount points belong to the user that all writers run as, so that fresh named volumes do, too.
RUN mkdir /app /bus /data /targets && chown 10001:10001 /bus /data /targets
# The same words inside as outside: docker exec CONTAINER ns explain BTC-5m
RUN printf '#!/bin/sh\ncd /app && exec python -m cli "$@"\n' >/usr/local/bin/ns && chmod 755 /usr/local/bin/ns
WORKDIR /app

FROM base AS application
COPY --from=dependencies /venv /venv
COPY recording recording
COPY bus bus
COPY ledger ledger
COPY cli cli
RUN ["python", "-m", "compileall", "-q", "recording", "bus", "ledger", "cli"]

FROM application AS bot
COPY bot bot
# A commit that does not compile, or cannot be imported, fails here and is never started.
RUN python -m compileall -q bot && python -c "import bot.lifecycle.app"
USER 10001:10001
# It knows the command `compare` (docs/reference/contract.md); what is built on it does, too.
LABEL never-sleeps.compare=1
ENTRYPOINT ["python", "-m", "bot"]

FROM application AS panel
COPY panel panel
RUN ["python", "-m", "compileall", "-q", "panel"]
USER 10001:10001
ENTRYPOINT ["python", "-m", "panel"]

FROM application AS paper
COPY paper paper
RUN ["python", "-m", "compileall", "-q", "paper"]
USER 10001:10001
ENTRYPOINT ["python", "-m", "paper"]

# It reads a git repository and builds images; the Engine's socket is mounted into this one alone.
# Its user may be any, and ssh-keygen checks no signature for a user without a name: libnss-wrapper gives it one (push/signatures.py).
FROM base AS tools
RUN apt-get update \
    && apt-get install -y --no-install-recommends docker-buildx docker-cli git libnss-wrapper openssh-client \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*

FROM tools AS deployer
# Whose requests those of the command line are, where Compose does not say.
ENV LOGNAME=somebody
COPY --from=dependencies /venv /venv
COPY bus bus
COPY ledger ledger
COPY cli cli
COPY deployer deployer
RUN ["python", "-m", "compileall", "-q", "bus", "ledger", "cli", "deployer"]
USER 10001:10001
ENTRYPOINT ["python", "-m", "deployer"]
CMD ["run"]
