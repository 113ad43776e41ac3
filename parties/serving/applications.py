"""Where the label holder's own applications ask for scores: `Score(ids, context)` over mutual TLS."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Final

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from parties.address import Address
from parties.certificate import key_fingerprint
from parties.certs import Identity
from parties.channels import listen, server_options
from parties.crash import report
from parties.errors import DataError
from parties.serving.hub import SILENCE
from parties.serving.scorer import BadRequest, Scorer, Scores
from parties.serving.tally import Tally
from protos.serving_pb2 import DESCRIPTOR, Scored, ScoreRequest, ScoreResponse, TookPart
from splitnn.errors import TrainingError

SERVICE = DESCRIPTOR.services_by_name["Scoring"].full_name
AT_ONCE: Final = 32
"""Requests under way; the next wait for them."""
WAITING: Final = 256
"""And so many wait; who comes then is told RESOURCE_EXHAUSTED."""
_fingerprint = lru_cache(1024)(key_fingerprint)  # to parse a certificate takes as long as a score


class Applications:
    """`open` it; `drain` lets requests end that are under way. ca: whom to believe about applications'
    certificates. clients: pins of their keys. scorer: may be replaced, by that of another version."""

    def __init__(
        self,
        identity: Identity,
        address: Address,
        ca: bytes,
        clients: Sequence[str],
        scorer: Scorer,
        tally: Tally,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._identity, self._address, self._ca = identity, address, ca
        self._clients, self.scorer, self._tally, self._say = frozenset(clients), scorer, tally, say
        self._health = health.HealthServicer(experimental_non_blocking=True)
        self._server: grpc.Server | None = None
        self._stumbled: set[str] = set()
        self.port = 0

    def open(self) -> None:
        """Raises NetworkError if the address cannot be had."""
        server = grpc.server(
            ThreadPoolExecutor(AT_ONCE, thread_name_prefix="score"),
            options=server_options(SILENCE),
            maximum_concurrent_rpcs=AT_ONCE + WAITING,
        )
        score = grpc.unary_unary_rpc_method_handler(self._score)  # bytes, parsed after the caller is known
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Score": score}),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        self.port = listen(server, self._address, self._identity, "serve.applications", self._ca)
        server.start()
        self._server = server
        for service in ("", SERVICE):
            self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    def drain(self, within: float) -> None:
        """Take no more requests, and wait for those under way."""
        self._health.enter_graceful_shutdown()
        if self._server is not None:
            self._server.stop(grace=within).wait(within + 1.0)

    def _score(self, payload: bytes, context: grpc.ServicerContext) -> bytes:
        began = time.monotonic()
        if not self._is_client(context):
            self._tally.refused()
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "no client of serve.clients")
        try:
            request, scorer = ScoreRequest.FromString(payload), self.scorer
            scorer.check(len(request.ids))
            ids = [one.parts for one in request.ids]
            found = scorer.score(ids, request.context, context.time_remaining())
            response = _response(scorer, found)
        except DecodeError:
            self._tally.refused()
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no ScoreRequest")
        except (BadRequest, DataError) as error:
            self._tally.refused()
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except Exception as error:  # its text may quote data: it is for our own log
            self._tally.failed()
            told = str(error) if isinstance(error, TrainingError) else report(error)
            if told not in self._stumbled:
                self._stumbled.add(told)
                self._say(told)
            context.abort(grpc.StatusCode.INTERNAL, "an error of the server")
        self._tally.answered(time.monotonic() - began, found)
        return response

    def _is_client(self, context: grpc.ServicerContext) -> bool:
        peer: Mapping[str, list[bytes]] = context.auth_context()  # type: ignore[assignment]
        try:
            return _fingerprint(peer["x509_pem_cert"][0]) in self._clients
        except (KeyError, ValueError):
            return False


def _response(scorer: Scorer, found: Scores) -> bytes:
    took_part = [TookPart(parties=one.parties, calibrated=one.calibrated) for one in found.among]
    scored = [
        Scored(score=score, took_part=of)
        for score, of in zip(found.scores.tolist(), found.of.tolist(), strict=True)
    ]
    return ScoreResponse(
        model=scorer.model, names=scorer.names, scored=scored, took_part=took_part
    ).SerializeToString()
