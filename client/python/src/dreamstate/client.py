"""A thin, typed client: what a call needs is an argument, what it answers is the contract's message.

Errors are grpc.RpcError as the server sent them; details_of() reads what they carry. A state is named
by its name (states/01h...), its id alone, or by a State message.
"""
from __future__ import annotations

import datetime
import hashlib
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from dreamstate.v1 import (
    common_pb2,
    decode_service_pb2,
    decode_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
    state_service_pb2,
    state_service_pb2_grpc,
)

if TYPE_CHECKING:
    import numpy

# str is sent as text, bytes as they are, a list of ints as token ids.
Text = Union[str, bytes, Sequence[int]]
StateRef = Union[str, state_service_pb2.State]

MAX_MESSAGE_BYTES = 16 << 20
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Piece:
    """A piece of generated text: complete UTF-8 in text, the same bytes unchanged in raw."""

    branch: int
    text: str
    raw: bytes
    token_ids: list[int]


class Decoding:
    """A decode as it happens. Iterate over it for its pieces; at its end finishes are complete."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self.start: decode_service_pb2.DecodeStart | None = None
        self.finishes: dict[int, decode_service_pb2.DecodeFinish] = {}

    def __iter__(self) -> Iterator[Piece]:
        for response in self._call:
            kind = response.WhichOneof("message")
            if kind == "start":
                self.start = response.start
            elif kind == "piece":
                piece = response.piece.piece
                yield Piece(response.piece.branch, piece.text, piece.raw, list(piece.token_ids))
            elif kind == "finish":
                self.finishes[response.finish.branch] = response.finish

    def texts(self) -> list[str]:
        """Runs to the end; the whole text of each branch."""
        texts: dict[int, str] = {}
        for piece in self:
            texts[piece.branch] = texts.get(piece.branch, "") + piece.text
        return [texts.get(branch, "") for branch in sorted(self.finishes)]

    def cancel(self) -> None:
        """Ends it on the server, too."""
        self._call.cancel()


class Client:
    """A connection to one server. Thread-safe; close it, or use it as a context manager.

    timeout, in seconds, bounds every call; None waits for ever.
    """

    def __init__(
        self,
        address: str = "localhost:50051",
        *,
        credentials: grpc.ChannelCredentials | None = None,
        timeout: float | None = None,
    ) -> None:
        options = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
        self.channel = (
            grpc.secure_channel(address, credentials, options)
            if credentials
            else grpc.insecure_channel(address, options)
        )
        self.timeout = timeout
        self.model_service = model_service_pb2_grpc.ModelServiceStub(self.channel)
        self.state_service = state_service_pb2_grpc.StateServiceStub(self.channel)
        self.decode_service = decode_service_pb2_grpc.DecodeServiceStub(self.channel)

    def close(self) -> None:
        self.channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    # ---- models

    def models(self) -> Iterator[model_service_pb2.Model]:
        request = model_service_pb2.ListModelsRequest()
        while True:
            page = self.model_service.ListModels(request, timeout=self.timeout)
            yield from page.models
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    # ---- states

    def harvest(
        self,
        documents: Mapping[str, Text] | Iterable[state_service_pb2.Document],
        *,
        model: str = "",
        labels: Iterable[str] = (),
        time_to_live: datetime.timedelta | None = None,
        every: int | None = None,
        keep_tokens: bool = False,
        source: StateRef | None = None,
        on_state: Callable[[state_service_pb2.HarvestedState], object] | None = None,
    ) -> list[state_service_pb2.HarvestedState]:
        """Reads documents, given as {id: text} or as messages, and returns a state for each when all
        are kept; with `every` one after every so many tokens and at the end. on_state, when given, is
        called with each as it arrives. Raises ValueError when the server refuses a document; the
        states of the others are kept all the same, and on_state saw them."""
        if isinstance(documents, (str, bytes, bytearray)):
            raise TypeError("documents: expected {id: text} or Document messages, found a single text")
        options = state_service_pb2.HarvestOptions(
            model=_model_name(model),
            keep_tokens=keep_tokens,
            annotations=_annotations(labels, time_to_live),
            source_state=_optional_state_name(source, "source"),
            request_id=uuid.uuid4().hex,
        )

        def requests() -> Iterator[state_service_pb2.HarvestStatesRequest]:
            yield state_service_pb2.HarvestStatesRequest(options=options)
            if isinstance(documents, Mapping):
                for key, text in documents.items():
                    document = state_service_pb2.Document(id=key, content=_text_input(text))
                    if every:
                        document.every_n = every
                    yield state_service_pb2.HarvestStatesRequest(document=document)
            else:
                for document in documents:
                    yield state_service_pb2.HarvestStatesRequest(document=document)

        harvested = []
        refused = []
        for response in self.state_service.HarvestStates(requests(), timeout=self.timeout):
            kind = response.WhichOneof("message")
            if kind == "state":
                harvested.append(response.state)
                if on_state is not None:
                    on_state(response.state)
            elif kind == "error":
                refused.append(f"{response.error.document_id}: {response.error.message}")
        if refused:
            raise ValueError("; ".join(refused))
        return harvested

    def states(
        self,
        *,
        model: str = "",
        labels: Iterable[str] = (),
        parent: StateRef | None = None,
        oldest_first: bool = False,
    ) -> Iterator[state_service_pb2.State]:
        """States that fit all that is given."""
        orders = state_service_pb2.ListStatesRequest
        request = state_service_pb2.ListStatesRequest(
            model=_model_name(model),
            labels=labels,
            parent=_optional_state_name(parent, "parent"),
            order=orders.OLDEST_FIRST if oldest_first else orders.NEWEST_FIRST,
        )
        while True:
            page = self.state_service.ListStates(request, timeout=self.timeout)
            yield from page.states
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def get_state(self, state: StateRef) -> state_service_pb2.State:
        request = state_service_pb2.GetStateRequest(name=_state_name(state))
        return self.state_service.GetState(request, timeout=self.timeout)

    def delete_state(self, state: StateRef) -> None:
        request = state_service_pb2.DeleteStateRequest(
            name=_state_name(state), request_id=uuid.uuid4().hex
        )
        self.state_service.DeleteState(request, timeout=self.timeout)

    def migrate(
        self,
        state: StateRef,
        *,
        model: str = "",
        labels: Iterable[str] | None = None,
        time_to_live: datetime.timedelta | None = None,
    ) -> state_service_pb2.State:
        """The state made again on the backbone that its model serves now, from kept tokens. Labels and
        time_to_live are the old state's unless one of them is given."""
        same = labels is None and time_to_live is None
        request = state_service_pb2.MigrateStateRequest(
            name=_state_name(state),
            model=_model_name(model),
            annotations=None if same else _annotations(labels or (), time_to_live),
            request_id=uuid.uuid4().hex,
        )
        return self.state_service.MigrateState(request, timeout=self.timeout)

    def describe(self, state: StateRef) -> state_service_pb2.DescribeStateResponse:
        """RMS, spectral norm and stable rank of every head's matrix."""
        request = state_service_pb2.DescribeStateRequest(name=_state_name(state))
        return self.state_service.DescribeState(request, timeout=self.timeout)

    def download(
        self,
        state: StateRef,
        *,
        layout: state_service_pb2.StateLayout = state_service_pb2.DREAMSTATE,
        dtype: state_service_pb2.StateDType = state_service_pb2.STATE_DTYPE_UNSPECIFIED,
    ) -> tuple[state_service_pb2.DownloadHeader, bytes]:
        """A state as the bytes of a file; raises OSError when they are not those that the server
        meant to send."""
        request = state_service_pb2.DownloadStateRequest(
            name=_state_name(state), layout=layout, dtype=dtype
        )
        header = state_service_pb2.DownloadHeader()
        chunks = []
        for response in self.state_service.DownloadState(request, timeout=self.timeout):
            if response.WhichOneof("message") == "header":
                header = response.header
            else:
                chunks.append(response.chunk)
        data = b"".join(chunks)
        if hashlib.sha256(data).hexdigest() != header.sha256:
            raise OSError(f"{_state_name(state)}: the download is damaged")
        return header, data

    def upload(
        self,
        data: bytes,
        *,
        model: str = "",
        layout: state_service_pb2.StateLayout = state_service_pb2.STATE_LAYOUT_UNSPECIFIED,
        dtype: state_service_pb2.StateDType = state_service_pb2.STATE_DTYPE_UNSPECIFIED,
        token_count: int = 0,
        transposed: bool = False,
        labels: Iterable[str] = (),
        time_to_live: datetime.timedelta | None = None,
    ) -> state_service_pb2.State:
        """Keeps the state that a file's bytes hold."""
        options = state_service_pb2.UploadOptions(
            model=_model_name(model),
            layout=layout,
            dtype=dtype,
            token_count=token_count,
            transposed=transposed,
            annotations=_annotations(labels, time_to_live),
            request_id=uuid.uuid4().hex,
        )

        def requests() -> Iterator[state_service_pb2.UploadStateRequest]:
            yield state_service_pb2.UploadStateRequest(options=options)
            for at in range(0, len(data), CHUNK_BYTES):
                yield state_service_pb2.UploadStateRequest(chunk=data[at : at + CHUNK_BYTES])

        return self.state_service.UploadState(requests(), timeout=self.timeout)

    def download_arrays(self, state: StateRef) -> tuple[numpy.ndarray, numpy.ndarray]:
        """A state as fp32 arrays: shift [layers, 2, width], wkv [layers, heads, value, key]. Needs
        numpy."""
        import numpy

        header, data = self.download(state, layout=state_service_pb2.CANONICAL)
        shape = header.state.shape
        values = numpy.frombuffer(data, dtype="<f4")
        split = shape.layers * 2 * shape.width
        shift = values[:split].reshape(shape.layers, 2, shape.width)
        wkv = values[split:].reshape(shape.layers, shape.heads, shape.head_size, shape.head_size)
        return shift.copy(), wkv.copy()

    def upload_arrays(
        self, shift: numpy.ndarray, wkv: numpy.ndarray, **arguments: Any
    ) -> state_service_pb2.State:
        """The inverse; `arguments` are those of upload()."""
        import numpy

        data = b"".join(numpy.ascontiguousarray(part, dtype="<f4").tobytes() for part in (shift, wkv))
        return self.upload(data, layout=state_service_pb2.CANONICAL, **arguments)

    # ---- decoding

    def decode(
        self,
        prompt: Text = "",
        *,
        source: StateRef | None = None,
        model: str = "",
        branches: int = 1,
        max_tokens: int = 0,
        stop: Iterable[str] = (),
        temperature: float | None = None,
        top_k: int = 0,
        top_p: float | None = None,
        min_p: float = 0,
        seed: int | None = None,
        save: bool = False,
        labels: Iterable[str] = (),
        time_to_live: datetime.timedelta | None = None,
    ) -> Decoding:
        """Continues a text from a state, or from nothing. With `save` the states of the branches are
        kept: they are in the decoding's finishes."""
        request = decode_service_pb2.DecodeRequest(
            model=_model_name(model),
            branches=branches,
            max_tokens=max_tokens,
            stop=stop,
            sampling=decode_service_pb2.Sampling(
                temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed
            ),
        )
        if name := _optional_state_name(source, "source"):
            request.source.state = name
        if len(prompt) > 0:
            request.prompt.CopyFrom(_text_input(prompt))
        if save:
            request.save_state.annotations.CopyFrom(_annotations(labels, time_to_live))
            request.save_state.request_id = uuid.uuid4().hex
        return Decoding(self.decode_service.Decode(request, timeout=self.timeout))

    def score(
        self,
        target: Text,
        *,
        context: Text = "",
        source: StateRef | None = None,
        model: str = "",
        per_token: bool = False,
    ) -> decode_service_pb2.ScoreResponse:
        """How well the model, from a state, foresees a text; fewer nats are better."""
        request = decode_service_pb2.ScoreRequest(
            model=_model_name(model), target=_text_input(target), per_token=per_token
        )
        if name := _optional_state_name(source, "source"):
            request.source.state = name
        if len(context) > 0:
            request.context.CopyFrom(_text_input(context))
        return self.decode_service.Score(request, timeout=self.timeout)


def details_of(error: grpc.RpcError) -> list[Message]:
    """The google.rpc details that an error carries: BadRequest names the field, ResourceInfo what is
    missing, RetryInfo when to come back."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            found = []
            for packed in status_pb2.Status.FromString(value).details:
                name = packed.type_url.rsplit("/", 1)[-1].rsplit(".", 1)[-1]
                kind = getattr(error_details_pb2, name, None)
                if kind is not None:
                    detail = kind()
                    packed.Unpack(detail)
                    found.append(detail)
            return found
    return []


def _state_name(state: StateRef, argument: str = "state") -> str:
    if not isinstance(state, (str, state_service_pb2.State)):
        raise TypeError(
            f"{argument}: expected a state's name, its id or a State, found {type(state).__name__}"
        )
    name = state if isinstance(state, str) else state.name
    return name if name.startswith("states/") else f"states/{name}"


def _optional_state_name(state: StateRef | None, argument: str) -> str:
    """Empty for None and for an empty string."""
    return "" if state is None or state == "" else _state_name(state, argument)


def _model_name(name: str) -> str:
    return name if not name or name.startswith("models/") else f"models/{name}"


def _text_input(text: Text) -> common_pb2.TextInput:
    if isinstance(text, str):
        return common_pb2.TextInput(text=text)
    if isinstance(text, (bytes, bytearray)):
        return common_pb2.TextInput(raw=bytes(text))
    return common_pb2.TextInput(tokens=common_pb2.TokenIds(ids=text))


def _annotations(
    labels: Iterable[str], time_to_live: datetime.timedelta | None
) -> common_pb2.Annotations:
    annotations = common_pb2.Annotations(labels=labels)
    if time_to_live is not None:
        annotations.time_to_live.FromTimedelta(time_to_live)
    return annotations
