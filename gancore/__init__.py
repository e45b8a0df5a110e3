"""gancore: a plugin-based framework for training generative adversarial networks.

    import gancore

    run = gancore.Run("digits", out="runs/a", steps=200)
    for record in run.train(progress=True):
        ...

`__init__.pyi` lists the public names. Each is imported when it is first used, so `import gancore` is fast.
"""

from importlib.metadata import version

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = version("gancore")
