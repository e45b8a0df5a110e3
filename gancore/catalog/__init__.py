from gancore.catalog.catalog import Catalog as Catalog
from gancore.catalog.catalog import Plugin as Plugin
from gancore.catalog.catalog import Recipe as Recipe
from gancore.catalog.catalog import read_plugin as read_plugin
