"""Writing captions word by word, once for all decoders: greedy, sampling, beam search.

Everything is `keras.ops` on fixed shapes, the loop included, so that it can be compiled whole; the
state never leaves the device. The loop ends when every caption has ended.
"""

import math
import numbers

import keras
import numpy as np
from keras import ops

from common.data.vocabulary import END, IMPOSSIBLE, PAD, START
from common.errors import ConfigError

# Below every real logit, and finite: differences of infinities are no numbers.
_NEVER = -1e9


def sample(
    decoder,
    features,
    length: int,
    uniforms=None,
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
    no_repeated_trigram: bool = False,
    region_mask=None,
):
    """Captions whose words are drawn by their probabilities, or the most likely ones.

    Args:
        decoder: A `Decoder`.
        features: `(B, N, channels)`.
        length: The most words, `<end>` included.
        uniforms: Numbers drawn from [0, 1), `(B, K, length)`: one per word of `K` captions of each
            image. The same numbers give the same captions on every backend. `None` for greedy:
            one caption, each word the most likely one.
        temperature: Divides the logits: below 1 likely words become likelier.
        top_p: Draw among the likeliest words which together have this probability (Holtzman et
            al., "The Curious Case of Neural Text Degeneration", 2020).
        no_repeated_trigram: Never the same three words twice in a caption.
        region_mask: Which regions may be looked at, see `Decoder`.

    Returns:
        Tokens int32 `(B, K, length)`, `<end>` included and `<pad>` after it, and the sum of the
        words' log probabilities `(B, K)` (without temperature and top-p).

    Raises:
        ConfigError: for values out of their range.
    """
    check(decoder, features, length, temperature=temperature, top_p=top_p)
    if uniforms is not None and (len(uniforms.shape) != 3 or uniforms.shape[-1] != length):
        raise ConfigError(
            f"uniforms must be (images, captions, {length}). Received: {tuple(uniforms.shape)}"
        )
    captions = 1 if uniforms is None else uniforms.shape[1]
    batch = ops.shape(features)[0]
    rows = batch * captions
    state = decoder.start(features, captions, region_mask)
    flat = None if uniforms is None else ops.reshape(uniforms, (rows, length))

    def going_on(t, tokens, last, ended, total, words):
        return ops.logical_and(t < length, ops.logical_not(ops.all(ended)))

    def one_word(t, tokens, last, ended, total, words):
        logits, after, _ = decoder.step(last, {"image": state["image"], "words": words})
        logits = _possible(logits, tokens, t, no_repeated_trigram)
        if flat is None:
            word = ops.cast(ops.argmax(logits, axis=-1), "int32")
        else:
            word = _draw(logits / temperature, ops.take(flat, t, axis=1), top_p)
        chosen = ops.take_along_axis(ops.log_softmax(logits, axis=-1), word[:, None], axis=-1)
        total = total + ops.where(ended, 0.0, chosen[:, 0])
        word = ops.where(ended, PAD, word)
        tokens = _write(tokens, t, word)
        return t + 1, tokens, word, ops.logical_or(ended, word == END), total, after["words"]

    first = (
        ops.zeros((), "int32"),
        ops.full((rows, length), PAD, "int32"),
        ops.full((rows,), START, "int32"),
        ops.zeros((rows,), "bool"),
        ops.zeros((rows,), "float32"),
        state["words"],
    )
    _, tokens, _, _, total, _ = ops.while_loop(going_on, one_word, first)
    return ops.reshape(tokens, (batch, captions, length)), ops.reshape(total, (batch, captions))


def beam_search(
    decoder,
    features,
    length: int,
    beams: int = 3,
    *,
    length_penalty: float = 1.0,
    no_repeated_trigram: bool = False,
    region_mask=None,
):
    """The best captions found by keeping the `beams` best beginnings of each image.

    A caption of `n` words (`<end>` included) scores `log p / n ** length_penalty`: with 0 long
    captions lose, since each word makes a caption less likely; with 1 it is the mean per word.

    1. Of all beginnings with one word more, and the captions that have ended, the `beams` best are
       kept. The greedy one is among them until it ends, whatever its rank.
    2. A caption that ends goes into a pool of the `beams` best, too: beginnings that promise more
       may push it out of the beam, and then end badly.
    3. The result is the pool, with what has not ended within `length` words.

    So the best caption never scores below the greedy one, which is what one beam gives. The pool
    alone would not do: what begins like the greedy caption may be pushed out before it ends.

    Args:
        decoder: A `Decoder`.
        features: `(B, N, channels)`.
        length: The most words, `<end>` included.
        beams: Number of beginnings kept.
        length_penalty: The exponent above, from Wu et al., "Google's Neural Machine Translation
            System" (2016), in the simpler form that most libraries have.
        no_repeated_trigram: Never the same three words twice in a caption.
        region_mask: Which regions may be looked at, see `Decoder`.

    Returns:
        Tokens int32 `(B, beams, length)`, the best first, and their scores `(B, beams)`.

    Raises:
        ConfigError: for values out of their range.
    """
    check(decoder, features, length, beams=beams, length_penalty=length_penalty)
    batch = ops.shape(features)[0]
    rows = batch * beams
    state = decoder.start(features, beams, region_mask)
    vocabulary = decoder.vocabulary_size
    candidates = ops.arange(beams * vocabulary, dtype="int32")
    # At first all beams are equal: only the first one may go on.
    alone = ops.where(ops.arange(beams) == 0, 0.0, _NEVER)
    # What an ended caption may go on with: <pad>, at no cost.
    rest = ops.where(ops.arange(vocabulary) == PAD, 0.0, 10 * _NEVER)

    def score(total, words):
        return total / ops.cast(ops.maximum(words, 1), "float32") ** length_penalty

    def pooled(pool, allowed, tokens, total, count):
        """The best of the pool and of those captions of the beam that are allowed, (B * K,)."""
        new = ops.where(allowed, score(total, count), 100 * _NEVER)
        scores = ops.concatenate([pool["scores"], ops.reshape(new, (batch, beams))], axis=1)
        tokens = ops.reshape(tokens, (batch, beams, length))
        tokens = ops.concatenate([pool["tokens"], tokens], axis=1)
        scores, best = ops.top_k(scores, beams)  # sorted
        return {"scores": scores, "tokens": ops.take_along_axis(tokens, best[..., None], axis=1)}

    def going_on(t, tokens, last, ended, greedy, total, count, pool, words):
        return ops.logical_and(t < length, ops.logical_not(ops.all(ended)))

    def one_word(t, tokens, last, ended, greedy, total, count, pool, words):
        logits, after, _ = decoder.step(last, {"image": state["image"], "words": words})
        logits = _possible(logits, tokens, t, no_repeated_trigram)
        log_p = ops.where(ended[:, None], rest, ops.log_softmax(logits, axis=-1))
        count = ops.where(ended, count, count + 1)
        totals = total[:, None] + log_p  # (B * K, vocabulary)
        ranked = ops.reshape(score(totals, count[:, None]), (batch, beams * vocabulary))
        # The greedy beginning is the first one, and stays it with its likeliest word.
        likeliest = ops.argmax(ops.reshape(logits, (batch, beams, vocabulary))[:, 0], axis=-1)
        first = candidates == ops.cast(likeliest, "int32")[:, None]
        first = ops.logical_and(greedy[:, None], first)
        _, best = ops.top_k(ops.where(first, -_NEVER, ranked), beams)  # (B, K)
        parents = best // vocabulary + ops.arange(batch, dtype="int32")[:, None] * beams
        parents = ops.reshape(ops.cast(parents, "int32"), (rows,))
        word = ops.reshape(ops.cast(best % vocabulary, "int32"), (rows,))
        total = ops.take_along_axis(ops.take(totals, parents, axis=0), word[:, None], axis=1)[:, 0]
        tokens = _write(ops.take(tokens, parents, axis=0), t, word)
        ended = ops.logical_or(ops.take(ended, parents, axis=0), word == END)
        greedy = ops.logical_and(greedy, ops.reshape(word, (batch, beams))[:, 0] != END)
        count = ops.take(count, parents, axis=0)
        pool = pooled(pool, word == END, tokens, total, count)
        words = keras.tree.map_structure(lambda x: ops.take(x, parents, axis=0), after["words"])
        return t + 1, tokens, word, ended, greedy, total, count, pool, words

    first = (
        ops.zeros((), "int32"),
        ops.full((rows, length), PAD, "int32"),
        ops.full((rows,), START, "int32"),
        ops.zeros((rows,), "bool"),
        ops.ones((batch,), "bool"),
        ops.tile(alone, (batch,)),
        ops.zeros((rows,), "int32"),
        {
            "scores": ops.full((batch, beams), 1000 * _NEVER, "float32"),
            "tokens": ops.full((batch, beams, length), PAD, "int32"),
        },
        state["words"],
    )
    _, tokens, _, ended, _, total, count, pool, _ = ops.while_loop(going_on, one_word, first)
    pool = pooled(pool, ops.logical_not(ended), tokens, total, count)
    return pool["tokens"], pool["scores"]


def check(decoder, features, length, beams=1, temperature=1.0, top_p=1.0, length_penalty=1.0):
    """Makes sure that options are in their range; of tensors that is known only when they run.

    Raises:
        ConfigError: naming the option and its range.
    """
    if not decoder.built:
        raise ConfigError(f"{decoder.name!r} has no weights yet: build it, or call it once.")
    others = decoder.vocabulary_size - len((END, *IMPOSSIBLE))
    captions = sum(others**words for words in range(1 + min(int(length), decoder.max_length)))
    for name, value, whole, right, wanted in (
        ("length", length, True, lambda x: 1 <= x <= decoder.max_length,
         f"1 to {decoder.max_length}, the decoder's max_length"),
        ("beams", beams, True, lambda x: 1 <= x <= captions,
         f"1 to {captions}, the number of possible captions"),
        ("temperature", temperature, False, lambda x: 0 < x < math.inf, "above 0"),
        ("top_p", top_p, False, lambda x: 0 < x <= 1, "above 0 and at most 1"),
        ("length_penalty", length_penalty, False, math.isfinite, "a finite number"),
    ):  # fmt: skip
        if isinstance(value, numbers.Number) and not (
            right(value) and (not whole or isinstance(value, numbers.Integral))
        ):
            raise ConfigError(f"{name}={value} is out of range: {wanted}.")
    if len(features.shape) != 3:
        raise ConfigError(
            f"features must be (images, regions, channels). Received: {tuple(features.shape)}"
        )


def possible_words(logits):
    """Logits `(..., vocabulary)`, float32, without the words that no caption may have."""
    never = np.isin(np.arange(logits.shape[-1]), IMPOSSIBLE)
    return ops.where(never, _NEVER, ops.cast(logits, "float32"))


def _possible(logits, tokens, t, no_repeated_trigram):
    """Logits without the words that this caption may not have now."""
    logits = possible_words(logits)
    if not no_repeated_trigram or tokens.shape[1] < 3:
        return logits
    vocabulary = ops.arange(logits.shape[-1])
    # Where the last two words stood before, what came after them then.
    last = ops.take(tokens, ops.maximum(t - 1, 0), axis=1)[:, None]
    before = ops.take(tokens, ops.maximum(t - 2, 0), axis=1)[:, None]
    again = (tokens[:, :-2] == before) & (tokens[:, 1:-1] == last)
    again = again & (ops.arange(tokens.shape[1] - 2) + 2 < t)
    followed = ops.where(again, tokens[:, 2:], PAD)  # <pad> is forbidden anyway
    repeats = ops.any(followed[:, :, None] == vocabulary, axis=1)
    return ops.where(repeats, _NEVER, logits)


def _draw(logits, uniform, top_p):
    """A word per row: where the cumulative probability passes a uniform number."""
    probability = ops.softmax(logits, axis=-1)
    if top_p >= 1.0:
        return _pass(probability, uniform)
    order = ops.argsort(-probability, axis=-1)
    ordered = ops.take_along_axis(probability, order, axis=-1)
    before = ops.cumsum(ordered, axis=-1) - ordered
    kept = ops.where(before < top_p, ordered, 0.0)
    place = _pass(kept / ops.sum(kept, axis=-1, keepdims=True), uniform)
    return ops.cast(ops.take_along_axis(order, place[:, None], axis=-1)[:, 0], "int32")


def _pass(probability, uniform):
    cumulative = ops.cumsum(probability, axis=-1)
    # The sum may end a little below 1: scale the number instead of overshooting.
    target = uniform[:, None] * cumulative[:, -1:]
    place = ops.sum(ops.cast(cumulative <= target, "int32"), axis=-1)
    return ops.cast(ops.minimum(place, probability.shape[-1] - 1), "int32")


def _write(tokens, t, word):
    """`tokens` with `word` in column `t`."""
    return ops.where(ops.arange(tokens.shape[1]) == t, word[:, None], tokens)
