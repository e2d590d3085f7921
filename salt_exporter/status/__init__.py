"""The status page `/`: where messages are lost, drawn on the way that they take.

gather.py asks the sources, view.py and hops.py put the answers into words (pure), the templates draw them.
"""

from salt_exporter.status.page import status_page

__all__ = ["status_page"]
