# Beside a Salt master on the same host; docs/installing.md says more, and how to ask for TLS and users:
#
#   install --directory --owner salt --group salt --mode 700 /var/lib/salt-exporter
#   docker run --network host --pid host --user "$(id -u salt):$(id -g salt)" \
#       --read-only --cap-drop all --security-opt no-new-privileges \
#       --volume /etc/salt:/etc/salt:ro \
#       --volume /var/cache/salt/master:/var/cache/salt/master:ro \
#       --volume /var/run/salt/master:/var/run/salt/master:ro \
#       --volume /var/lib/salt-exporter:/var/lib/salt-exporter \
#       salt-exporter
#
# network  The host's: the kernel lists the sockets (sock_diag) of one network namespace only.
# pid      The host's: the master's processes. Without it they, and the names of those who read the event bus, are
#          unknown, and the collector `processes` fails: --no-collector.processes.
# user     The master's, for its event bus and keys are nobody else's; root (--user 0) where it runs as root.
# volumes  Its configuration, cachedir, sock_dir and pki_dir, under the paths its configuration gives.
#          Above are Salt's defaults, with pki_dir inside /etc/salt. The exporter writes to none of them, only to the
#          last one, its own; without that it keeps the loss journal in memory.

FROM python:3.11-slim-bookworm AS build

WORKDIR /src
# A pip of its own: that of the base image knows no build constraints. It stays behind.
COPY constraints.txt constraints-build.txt deploy/requirements.txt ./
RUN python -m venv /opt/pip \
    && /opt/pip/bin/pip install --no-cache-dir --constraint constraints.txt pip \
    && python -m venv --without-pip /opt/salt-exporter \
    && /opt/pip/bin/pip --python /opt/salt-exporter/bin/python install --no-cache-dir --no-deps \
        --build-constraint constraints-build.txt --requirement requirements.txt
COPY . .
RUN /opt/pip/bin/pip --python /opt/salt-exporter/bin/python install --no-cache-dir --no-deps \
        --build-constraint constraints-build.txt . \
    && cp deploy/image/healthcheck.py /opt/salt-exporter

FROM python:3.11-slim-bookworm

LABEL org.opencontainers.image.title="salt-exporter" \
      org.opencontainers.image.description="Prometheus exporter for Salt masters that finds, measures and explains lost Salt messages" \
      org.opencontainers.image.licenses="Apache-2.0"

COPY --from=build /opt/salt-exporter /opt/salt-exporter
ENV PATH=/opt/salt-exporter/bin:$PATH

# A number, so that Kubernetes' runAsNonRoot can tell that it is not root.
USER 65532:65532
EXPOSE 4507
# It asks where the exporter's own flags, variables and file say, with TLS or without.
HEALTHCHECK --interval=15s --timeout=5s --start-period=15s CMD ["python", "/opt/salt-exporter/healthcheck.py"]
ENTRYPOINT ["salt-exporter"]
