# twinpool on Debian 12, without root:
#
#   docker build -t twinpool .
#   docker run --rm -p 8080:8080 twinpool
#
# It needs no capability and writes nowhere, so --read-only --cap-drop=ALL --security-opt=no-new-privileges are fine.
# Another configuration: -v "$PWD/twinpool.json:/etc/twinpool/twinpool.json:ro", or TWINPOOL_* variables by -e.

FROM debian:bookworm-slim AS build
WORKDIR /source
COPY scripts/dependencies scripts/
RUN scripts/dependencies build
COPY . .
# Without Python tasks: the image has no libpython.
RUN cmake --preset release -DTWINPOOL_PYTHON=OFF -DCMAKE_INSTALL_PREFIX=/usr -DCMAKE_INSTALL_SYSCONFDIR=/etc \
	&& cmake --build --preset release \
	&& DESTDIR=/image cmake --install build/release --strip

FROM debian:bookworm-slim
RUN apt-get update \
	&& DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
		libcurl3-gnutls libgnutls30 libjansson4 libjemalloc2 libmicrohttpd12 libnettle8 libpq5 libsqlite3-0 \
	&& rm -rf /var/lib/apt/lists/* /var/cache/apt/*
COPY --from=build /image/ /
COPY scripts/healthcheck /usr/libexec/twinpool/
USER 10001:10001
WORKDIR /
# Inside, it listens on all addresses, and only published ports lead there; so tokens are a choice: -e TWINPOOL_TOKENS_FILE=...
ENV TWINPOOL_CONFIG=/etc/twinpool/twinpool.json TWINPOOL_LISTEN=0.0.0.0:8080 TWINPOOL_ALLOW_ANONYMOUS=1
EXPOSE 8080
# As process 1 it reaps, and ends in order: SIGTERM lets running jobs end, within server.shutdown_grace_ms.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/usr/libexec/twinpool/healthcheck"]
# Further arguments of docker run are those of twinpool.
ENTRYPOINT ["/usr/bin/twinpool"]
