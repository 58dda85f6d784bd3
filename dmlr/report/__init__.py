"""Looking at finished runs: comparison with statistics, heatmaps, and one self-contained HTML page.

`runs.py` reads run folders, `statistics.py` holds every interval and test, `compare.py` sets runs side by
side, `evidence.py` and `heatmaps.py` know where image tokens lie in the picture, `html.py` writes the page.
Nothing here loads a model or imports torch.
"""
