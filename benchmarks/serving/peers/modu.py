"""Modu itself: build/modu, or what MODU_BINARY names."""

import os

from peers.http import ROOT, HttpContender


class Modu(HttpContender):
    """Without prefix cache and, unless the flags say otherwise, without guesses: what peers are measured without."""

    name = "modu"

    def __init__(self, model, flags):
        self.model, self.flags = model, flags.split()
        if "--draft-tokens" not in self.flags:
            self.flags += ["--draft-tokens", "0"]
        self.binary = os.environ.get("MODU_BINARY", os.path.join(ROOT, "build", "modu"))
        self.about = "`%s serve %s --no-prefix-cache --max-seqs STREAMS (64 or more) %s`" % (os.path.basename(self.binary), os.path.basename(model), " ".join(self.flags))

    def command(self, point, port):
        return [self.binary, "serve", self.model, "--port", str(port), "--grpc-port", "-1",
                "--admin-port", "-1", "--no-prefix-cache",
                *([] if "--max-seqs" in self.flags else ["--max-seqs", str(max(64, point.streams))]), *self.flags]
