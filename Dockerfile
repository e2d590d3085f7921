# Beside a Salt master on the same host:
#
#   docker run --network host --user "$(id -u salt):$(id -g salt)" \
#       --volume /etc/salt:/etc/salt:ro \
#       --volume /var/cache/salt/master:/var/cache/salt/master:ro \
#       --volume /var/run/salt/master:/var/run/salt/master:ro \
#       salt-exporter
#
# network  The host's: the kernel lists the sockets (sock_diag) of one network namespace only.
# user     The master's, for its event bus and keys are nobody else's; root (--user 0) where it runs as root.
# volumes  Its configuration, cachedir, sock_dir and pki_dir, under the paths its configuration gives.
#          Above are Salt's defaults, with pki_dir inside /etc/salt. The exporter writes to none of them.

FROM python:3.11-slim-bookworm AS build

# Salt requires timelib, which is published as C source only. Nothing of this stage but the virtualenv is kept.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /src
COPY . .
RUN python -m venv /opt/salt-exporter \
    && /opt/salt-exporter/bin/pip install --no-cache-dir --constraint constraints.txt pip \
    && /opt/salt-exporter/bin/pip install --no-cache-dir \
        --constraint constraints.txt --build-constraint constraints-build.txt .

FROM python:3.11-slim-bookworm

LABEL org.opencontainers.image.title="salt-exporter" \
      org.opencontainers.image.description="Prometheus exporter for Salt masters that finds, measures and explains lost Salt messages" \
      org.opencontainers.image.licenses="Apache-2.0"

COPY --from=build /opt/salt-exporter /opt/salt-exporter
ENV PATH=/opt/salt-exporter/bin:$PATH

# A number, so that Kubernetes' runAsNonRoot can tell that it is not root.
USER 65532:65532
EXPOSE 4507
# http.client and not urllib: it heeds no proxy variables. Override where the port or TLS is changed.
HEALTHCHECK --interval=15s --timeout=5s --start-period=15s CMD ["python", "-c", "\
from http.client import HTTPConnection; \
exporter = HTTPConnection('127.0.0.1', 4507, timeout=4); \
exporter.request('GET', '/-/healthy'); \
raise SystemExit(exporter.getresponse().status != 200)"]
ENTRYPOINT ["salt-exporter"]
