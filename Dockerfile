# Multi-stage: the build stage carries compilers, the served image only the binary and its shared libraries.
#   docker build -t modu . && docker run -p 8000:8000 -p 8001:8001 -v modu-models:/models modu
# Metrics and health listen on 8002 within the container: publish it to a private address only (-p 127.0.0.1:8002:8002).
FROM debian:trixie-slim AS build
WORKDIR /src
COPY deploy/install-dependencies deploy/install-dependencies
RUN apt-get update && apt-get install -y --no-install-recommends make && deploy/install-dependencies build
COPY . .
RUN cmake --preset release -DMODU_TESTS=OFF -DMODU_BENCHMARKS=OFF && cmake --build build --target modu -j "$(nproc)" \
    && strip build/modu
# The libraries that the binary needs, found by asking it.
RUN mkdir -p /out/lib && ldd build/modu | awk '$3 ~ /^\// {print $3}' | xargs -I{} cp -L {} /out/lib/ \
    && cp build/modu /out/modu

FROM debian:trixie-slim
# python3-pip: the default model lies in a Python package; an image that mounts its models does not need it.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates python3-pip \
    && rm -rf /var/lib/apt/lists/* && useradd --system --uid 10001 --create-home modu \
    && mkdir /models && chown modu /models
COPY --from=build /out/lib/ /usr/local/lib/modu/
COPY --from=build /out/modu /usr/local/bin/modu
ENV LD_LIBRARY_PATH=/usr/local/lib/modu MODU_HOME=/models
USER modu
EXPOSE 8000 8001 8002
ENTRYPOINT ["/usr/local/bin/modu"]
CMD ["serve", "--host", "0.0.0.0", "--admin-host", "0.0.0.0"]
