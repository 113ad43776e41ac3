from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Frame(_message.Message):
    __slots__ = ("run", "session", "incarnation", "sender", "receiver", "sequence", "acknowledgement", "kind", "chunk", "last", "payload")
    RUN_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECEIVER_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGEMENT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    run: bytes
    session: int
    incarnation: int
    sender: str
    receiver: str
    sequence: int
    acknowledgement: int
    kind: str
    chunk: int
    last: bool
    payload: bytes
    def __init__(self, run: _Optional[bytes] = ..., session: _Optional[int] = ..., incarnation: _Optional[int] = ..., sender: _Optional[str] = ..., receiver: _Optional[str] = ..., sequence: _Optional[int] = ..., acknowledgement: _Optional[int] = ..., kind: _Optional[str] = ..., chunk: _Optional[int] = ..., last: _Optional[bool] = ..., payload: _Optional[bytes] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("party", "versions", "contract", "nonce", "exchange_key", "certificate", "purpose", "protocols", "kinds", "previous", "aligned", "steps", "model", "columns")
    PARTY_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    EXCHANGE_KEY_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    PROTOCOLS_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    ALIGNED_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    party: str
    versions: _containers.RepeatedScalarFieldContainer[int]
    contract: bytes
    nonce: bytes
    exchange_key: bytes
    certificate: bytes
    purpose: str
    protocols: _containers.RepeatedScalarFieldContainer[str]
    kinds: _containers.RepeatedScalarFieldContainer[str]
    previous: bytes
    aligned: bool
    steps: _containers.RepeatedScalarFieldContainer[int]
    model: bytes
    columns: str
    def __init__(self, party: _Optional[str] = ..., versions: _Optional[_Iterable[int]] = ..., contract: _Optional[bytes] = ..., nonce: _Optional[bytes] = ..., exchange_key: _Optional[bytes] = ..., certificate: _Optional[bytes] = ..., purpose: _Optional[str] = ..., protocols: _Optional[_Iterable[str]] = ..., kinds: _Optional[_Iterable[str]] = ..., previous: _Optional[bytes] = ..., aligned: _Optional[bool] = ..., steps: _Optional[_Iterable[int]] = ..., model: _Optional[bytes] = ..., columns: _Optional[str] = ...) -> None: ...

class Hellos(_message.Message):
    __slots__ = ("hello",)
    HELLO_FIELD_NUMBER: _ClassVar[int]
    hello: _containers.RepeatedCompositeFieldContainer[Hello]
    def __init__(self, hello: _Optional[_Iterable[_Union[Hello, _Mapping]]] = ...) -> None: ...

class Offer(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: int
    def __init__(self, ids: _Optional[int] = ...) -> None: ...

class Terms(_message.Message):
    __slots__ = ("protocol", "kind", "buckets", "ids", "over", "uneven", "scale")
    class IdsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    BUCKETS_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    OVER_FIELD_NUMBER: _ClassVar[int]
    UNEVEN_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    protocol: str
    kind: str
    buckets: int
    ids: _containers.ScalarMap[str, int]
    over: _containers.RepeatedScalarFieldContainer[str]
    uneven: _containers.RepeatedScalarFieldContainer[str]
    scale: int
    def __init__(self, protocol: _Optional[str] = ..., kind: _Optional[str] = ..., buckets: _Optional[int] = ..., ids: _Optional[_Mapping[str, int]] = ..., over: _Optional[_Iterable[str]] = ..., uneven: _Optional[_Iterable[str]] = ..., scale: _Optional[int] = ...) -> None: ...

class Agreement(_message.Message):
    __slots__ = ("signature",)
    class SignatureEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    signature: _containers.ScalarMap[str, bytes]
    def __init__(self, signature: _Optional[_Mapping[str, bytes]] = ...) -> None: ...
