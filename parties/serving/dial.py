"""A feature holder's end of serving: it dials the label holder, answers what it is asked, and dials again."""

import queue
import random
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc

from parties.address import Address
from parties.channels import dial
from parties.dial import FIRST_DELAY, LONGEST_DELAY, PROBE
from parties.errors import ContractError, IdentityError, NetworkError, StorageError
from parties.model import Model
from parties.probe import look_at_hub
from parties.serving.answers import Answers
from parties.serving.greeting import AnotherVersion, Host, session_of, told
from parties.serving.hub import SERVICE, SILENCE, Over, field_of, heard
from parties.serving.notes import Notes, kind_of
from protos.rounds import RemoteProtocolError
from protos.serving_pb2 import FromFeatureHolder, FromLabelHolder, Refusal


class Serves(NamedTuple):
    """What a line is of: one version."""

    host: Host
    model: Model
    answers: Answers


class Answering:
    """`serve` until `stop`. say: what the operator should see."""

    def __init__(
        self,
        host: Host,
        model: Model,
        hub: Address,
        answers: Answers,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.serves, self._address = Serves(host, model, answers), hub
        self._name, self._say, self._said = host.contract.label_holder, say, ""
        self._stop = threading.Event()
        self._call: Any = None
        self.there = False

    def serve(self) -> None:
        """Dial, answer, and dial again. Waited for are: who is only away, or serves another version; and room
        in our own egress log.

        Raises ContractError (another contract there), IdentityError, RemoteProtocolError, AccountError,
        TrainingError.
        """
        delay = FIRST_DELAY
        while not self._stop.is_set():
            channel = dial(self._address, self._name, self.serves.host.identity, SILENCE)
            try:
                if self._converse(channel):
                    delay = FIRST_DELAY
            except (AnotherVersion, StorageError) as error:  # a full disk: until there is room
                self.there = False
                self._tell(f"{error}; dialling again")
            finally:
                was_there, self.there = self.there, False
                channel.close()
            if was_there:
                self._tell(f"{self._name} is away; dialling again")
            self._stop.wait(delay * random.uniform(0.5, 1.5))  # noqa: S311 - so that parties do not dial in step
            delay = min(delay * 1.5, LONGEST_DELAY)

    def switch(self, host: Host, model: Model, answers: Answers) -> None:
        """To another version: on a new line, as soon as the label holder serves it, too."""
        self.serves = Serves(host, model, answers)
        if self._call is not None:
            self._call.cancel()

    def stop(self) -> None:
        self._stop.set()
        if self._call is not None:
            self._call.cancel()

    def _converse(self, channel: grpc.Channel) -> bool:
        """Until the stream ends. Was it admitted?"""
        serves = self.serves
        host, model, answers = serves
        me, hub = host.identity.party, self._name
        out: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        call: Any = channel.stream_stream(f"/{SERVICE}/Answer", None, None)(iter(out.get, None))
        self._call, ours = call, host.greeting()
        if self.serves is not serves:  # switched in this moment
            call.cancel()
        notes: Notes | None = None
        out.put(FromFeatureHolder(greeting=ours).SerializeToString())
        try:
            theirs = field_of(heard(call, FromLabelHolder, hub), "greeting", hub)
            host.check(theirs, hub)
            proof = field_of(heard(call, FromLabelHolder, hub), "proof", hub)
            said = told(hub, hub, theirs, me, ours)
            host.check_proof(proof, hub, said)
            notes = Notes(model, me, hub, session_of(said))
            signed = host.proof(told(me, hub, theirs, me, ours))
            answers.begin()
            out.put(FromFeatureHolder(proof=signed).SerializeToString())
            self.there = True
            self._tell(f"answers {hub} at {self._address}")
            while True:
                message = heard(call, FromLabelHolder, hub)
                question = field_of(message, "question", hub)
                notes.came(kind_of(question), message.ByteSize())
                answer = answers.answer(question)
                payload = FromFeatureHolder(answer=answer).SerializeToString()
                if notes.leaves(kind_of(answer), question.number, payload):
                    out.put(payload)
                if answer.refused == Refusal.BUDGET:
                    self._tell("the privacy budget is used up: nothing more is answered on this line")
        except Over:
            self._look_why(call)
            return notes is not None
        finally:
            out.put(None)
            call.cancel()
            if notes is not None:
                notes.end("done")

    def _look_why(self, call: Any) -> None:
        """Raises IdentityError where it is of no use to dial again."""
        if self._stop.is_set():
            return
        code, own = call.code(), self.serves.host.identity
        if code is grpc.StatusCode.PERMISSION_DENIED:
            raise IdentityError(
                f"permission denied by {self._name} at {self._address}: "
                f"{own.certificate_file} is not the certificate that its run.toml pins for {own.party}, or "
                "denied there; compare run.toml"
            )
        if code is grpc.StatusCode.FAILED_PRECONDITION:
            raise ContractError(
                f"{self._name} at {self._address} has another contract, model version or key of ours; see "
                "its output, and promote the same version everywhere"
            )
        if code is grpc.StatusCode.INVALID_ARGUMENT:
            raise RemoteProtocolError(
                f"{self._name} refused what we answered; compare releases, and see its output"
            )
        if self.there:
            return
        try:
            look_at_hub(self._address, self._name, None, own, PROBE)
        except NetworkError as error:
            self._tell(f"{error}; dialling again")

    def _tell(self, line: str) -> None:
        if line != self._said:
            self._said = line
            self._say(line)
