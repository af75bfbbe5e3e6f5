"""Several networks that answer together."""

from collections.abc import Sequence

import keras

from common.errors import ConfigError


@keras.saving.register_keras_serializable("course")
class Ensemble(keras.Model):
    """Networks whose logits are averaged: raw pixels in, float32 logits out.

    1. each member: images `(N, H, W, channels)` to logits `(N, classes)`
    2. the mean over the members; after the softmax that is the geometric mean of their
       probabilities, scaled to sum 1

    Lakshminarayanan, Pritzel and Blundell, "Simple and Scalable Predictive Uncertainty Estimation
    using Deep Ensembles" (2017), average the probabilities.

    Args:
        members: Models from `resnet`, each of another name.

    Raises:
        ConfigError: for less than two, two of one name, or members that take other images or tell
            other classes.
    """

    def __init__(self, members: Sequence[keras.Model], name: str = "ensemble", **kwargs):
        members = list(members)
        if len(members) < 2:
            raise ConfigError(f"An ensemble has two members or more. Received: {len(members)}")
        if len({member.name for member in members}) < len(members):
            raise ConfigError(
                "The members of an ensemble need different names. Received: "
                + ", ".join(member.name for member in members)
            )
        shapes = {(member.input_shape, member.output_shape) for member in members}
        if len(shapes) > 1:
            told = "; ".join(f"{taken} to {given}" for taken, given in sorted(shapes, key=str))
            raise ConfigError(f"The members of an ensemble must have the same shapes, not {told}.")
        inputs = keras.Input(members[0].input_shape[1:], dtype="uint8", name="images")
        mean = keras.layers.Average(dtype="float32", name="mean")
        super().__init__(inputs, mean([member(inputs) for member in members]), name=name, **kwargs)

    @property
    def members(self) -> list[keras.Model]:
        """The networks, in order."""
        return [layer for layer in self.layers if isinstance(layer, keras.Model)]

    def get_config(self):
        members = [keras.saving.serialize_keras_object(member) for member in self.members]
        return {"name": self.name, "trainable": self.trainable, "members": members}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        members = [
            keras.saving.deserialize_keras_object(member, custom_objects)
            for member in config["members"]
        ]
        return cls(**{**config, "members": members})


def members_of(network: keras.Model) -> list[keras.Model]:
    """The members of an ensemble; of any other network, itself."""
    return network.members if isinstance(network, Ensemble) else [network]
