# backpack-feed in a container: docs/container.md. The first stage has a compiler, the second one has what it made and nothing else.
FROM python:3.12-slim-bookworm AS build

RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN BACKPACK_FEED_NATIVE=1 pip wheel --no-cache-dir --no-deps --wheel-dir /dist .
RUN python -m venv /opt/backpack-feed \
    && /opt/backpack-feed/bin/pip install --no-cache-dir "$(echo /dist/backpack_feed-*.whl)[serve]"


FROM python:3.12-slim-bookworm

RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin feed
COPY --from=build /opt/backpack-feed /opt/backpack-feed
COPY deploy/container/health.py /opt/health.py
ENV PATH=/opt/backpack-feed/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=15s --timeout=6s --start-period=60s --retries=3 CMD ["python", "/opt/health.py"]
ENTRYPOINT ["backpack-feed"]
# Other machines reach this address, so readers need a token: BACKPACK_FEED_TOKEN, or --token-file with a mounted secret.
CMD ["serve", "--host", "0.0.0.0", "--port", "8080"]
