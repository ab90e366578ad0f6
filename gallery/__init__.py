"""The gallery: truth in SQL, keys, and the indexes that are views of it.

`gallery.gallery.Gallery` is the one class that other packages use; `gallery.records` holds what it takes and gives.
"""
