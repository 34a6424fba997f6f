"""What every network must do, stated once: a test module subclasses `ModelChecks` and says how to build its network."""

from __future__ import annotations

import io

import pytest
import torch

from fcnbook.book.agree import randomize
from fcnbook.models.segmenter import Segmenter
from fcnbook.types import SegLogits

NUM_CLASSES = 5


class ModelChecks:
    """Subclasses are collected by pytest; this class is not, since its name does not begin with "Test"."""

    main_stride: int
    """Image pixels per logit of the decode head."""
    aux_stride: int | None = None
    """The same of the auxiliary head, None without one."""
    has_scene = False
    """Whether the head tells the classes of the scene."""
    geometric_classes: int | None = None
    """Outputs of the second set of scores, None without one."""

    def build(self) -> Segmenter:
        raise NotImplementedError

    @pytest.fixture
    def model(self) -> Segmenter:
        """The network with random values in every parameter; layers that start at zero would hide the others."""
        torch.manual_seed(0)
        model = self.build()
        randomize(model)
        return model

    def images(self, height: int = 64, width: int = 96, batch_size: int = 2) -> torch.Tensor:
        return torch.randn(batch_size, 3, height, width, generator=torch.Generator().manual_seed(1))

    @pytest.mark.parametrize("size", [(64, 96), (97, 129), (33, 65)])
    def test_logits_have_the_size_of_the_image_over_the_stride_rounded_up(self, model, size):
        with torch.no_grad():
            logits = model.eval()(self.images(*size))
        for logit, stride in ((logits.main, self.main_stride), (logits.aux, self.aux_stride)):
            if stride is None:
                assert logit is None
            else:
                assert logit.shape == (2, NUM_CLASSES, -(-size[0] // stride), -(-size[1] // stride))
                assert logit.isfinite().all()
                assert logit.std() > 0
        assert logits.scene is None or logits.scene.shape == (2, NUM_CLASSES)
        assert (logits.scene is not None) == self.has_scene
        assert (logits.geometry is not None) == (self.geometric_classes is not None)
        if logits.geometry is not None:
            assert logits.geometry.shape == (2, self.geometric_classes, *logits.main.shape[-2:])

    def test_training_and_evaluation_return_the_same_types_and_shapes(self, model):
        training, evaluation = model.train()(self.images()), model.eval()(self.images())
        assert type(training) is type(evaluation) is SegLogits
        for one, other in zip(training, evaluation, strict=True):
            assert (one is None) == (other is None)
            assert one is None or one.shape == other.shape

    def test_every_parameter_gets_a_gradient(self, model):
        logits = model.train()(self.images(97, 129))
        loss = sum((x * torch.randn_like(x)).sum() for x in logits if x is not None)
        loss.backward()
        without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
        assert without == []
        assert all(p.grad.isfinite().all() for p in model.parameters())

    def test_weights_survive_a_file(self, model):
        file = io.BytesIO()
        torch.save(model.state_dict(), file)
        file.seek(0)
        torch.manual_seed(5)
        other = self.build().eval()
        with torch.no_grad():
            wanted = model.eval()(self.images())
            assert not torch.equal(other(self.images()).main, wanted.main)
            other.load_state_dict(torch.load(file, weights_only=True), strict=True)
            got = other(self.images())
        for one, other in zip(got, wanted, strict=True):
            assert (one is None) == (other is None)
            assert one is None or torch.equal(one, other)

    def test_evaluation_is_deterministic_and_leaves_no_trace(self, model):
        before = {name: tensor.clone() for name, tensor in model.eval().state_dict().items()}
        with torch.no_grad():
            first, second = model(self.images()), model(self.images())
        assert torch.equal(first.main, second.main)
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())

    def test_evaluation_of_an_image_does_not_depend_on_its_batch(self, model):
        with torch.no_grad():
            both, alone = model.double().eval()(self.images().double()), model(self.images()[1:].double())
        # float64; another batch size may take another order of sums, which moves values by about 1e-15
        torch.testing.assert_close(both.main[1:], alone.main, rtol=1e-9, atol=1e-9)
