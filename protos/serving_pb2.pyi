from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Refusal(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NONE: _ClassVar[Refusal]
    RATE: _ClassVar[Refusal]
    BUDGET: _ClassVar[Refusal]
NONE: Refusal
RATE: Refusal
BUDGET: Refusal

class Greeting(_message.Message):
    __slots__ = ("version", "contract", "model", "nonce", "people")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    PEOPLE_FIELD_NUMBER: _ClassVar[int]
    version: int
    contract: bytes
    model: bytes
    nonce: bytes
    people: bytes
    def __init__(self, version: _Optional[int] = ..., contract: _Optional[bytes] = ..., model: _Optional[bytes] = ..., nonce: _Optional[bytes] = ..., people: _Optional[bytes] = ...) -> None: ...

class Proof(_message.Message):
    __slots__ = ("certificate", "signature")
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    certificate: bytes
    signature: bytes
    def __init__(self, certificate: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Question(_message.Message):
    __slots__ = ("number", "users", "ids")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    number: int
    users: bytes
    ids: bytes
    def __init__(self, number: _Optional[int] = ..., users: _Optional[bytes] = ..., ids: _Optional[bytes] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("number", "embeddings", "refused", "known")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    number: int
    embeddings: bytes
    refused: Refusal
    known: bytes
    def __init__(self, number: _Optional[int] = ..., embeddings: _Optional[bytes] = ..., refused: _Optional[_Union[Refusal, str]] = ..., known: _Optional[bytes] = ...) -> None: ...

class FromFeatureHolder(_message.Message):
    __slots__ = ("greeting", "proof", "answer")
    GREETING_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    greeting: Greeting
    proof: Proof
    answer: Answer
    def __init__(self, greeting: _Optional[_Union[Greeting, _Mapping]] = ..., proof: _Optional[_Union[Proof, _Mapping]] = ..., answer: _Optional[_Union[Answer, _Mapping]] = ...) -> None: ...

class FromLabelHolder(_message.Message):
    __slots__ = ("greeting", "proof", "question")
    GREETING_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    greeting: Greeting
    proof: Proof
    question: Question
    def __init__(self, greeting: _Optional[_Union[Greeting, _Mapping]] = ..., proof: _Optional[_Union[Proof, _Mapping]] = ..., question: _Optional[_Union[Question, _Mapping]] = ...) -> None: ...

class Id(_message.Message):
    __slots__ = ("parts",)
    PARTS_FIELD_NUMBER: _ClassVar[int]
    parts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, parts: _Optional[_Iterable[str]] = ...) -> None: ...

class ScoreRequest(_message.Message):
    __slots__ = ("ids", "context")
    class ContextEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    IDS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedCompositeFieldContainer[Id]
    context: _containers.ScalarMap[str, str]
    def __init__(self, ids: _Optional[_Iterable[_Union[Id, _Mapping]]] = ..., context: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Scored(_message.Message):
    __slots__ = ("score", "took_part")
    SCORE_FIELD_NUMBER: _ClassVar[int]
    TOOK_PART_FIELD_NUMBER: _ClassVar[int]
    score: _containers.RepeatedScalarFieldContainer[float]
    took_part: int
    def __init__(self, score: _Optional[_Iterable[float]] = ..., took_part: _Optional[int] = ...) -> None: ...

class TookPart(_message.Message):
    __slots__ = ("parties", "calibrated")
    PARTIES_FIELD_NUMBER: _ClassVar[int]
    CALIBRATED_FIELD_NUMBER: _ClassVar[int]
    parties: _containers.RepeatedScalarFieldContainer[str]
    calibrated: bool
    def __init__(self, parties: _Optional[_Iterable[str]] = ..., calibrated: _Optional[bool] = ...) -> None: ...

class ScoreResponse(_message.Message):
    __slots__ = ("model", "names", "scored", "took_part")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    SCORED_FIELD_NUMBER: _ClassVar[int]
    TOOK_PART_FIELD_NUMBER: _ClassVar[int]
    model: bytes
    names: _containers.RepeatedScalarFieldContainer[str]
    scored: _containers.RepeatedCompositeFieldContainer[Scored]
    took_part: _containers.RepeatedCompositeFieldContainer[TookPart]
    def __init__(self, model: _Optional[bytes] = ..., names: _Optional[_Iterable[str]] = ..., scored: _Optional[_Iterable[_Union[Scored, _Mapping]]] = ..., took_part: _Optional[_Iterable[_Union[TookPart, _Mapping]]] = ...) -> None: ...
