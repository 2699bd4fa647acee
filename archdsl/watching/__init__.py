"""Following the files of a spec: a picture or a page that is made again at each save."""
