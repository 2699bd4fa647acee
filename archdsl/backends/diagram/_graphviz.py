"""Run as a program: dot text on stdin, the picture on stdout, laid out by the Graphviz that pygraphviz's wheel carries.

Arguments: the format, and Graphviz's name of the layout.
"""

import sys


def main() -> None:
    try:
        import pygraphviz
    except ImportError as error:
        sys.exit(f"there is no Graphviz: no `dot` on PATH, and pygraphviz cannot be imported ({error})")
    form, layout = sys.argv[1:]
    graph = pygraphviz.AGraph(string=sys.stdin.buffer.read().decode())
    sys.stdout.buffer.write(graph.draw(format=form, prog=layout))


if __name__ == "__main__":
    main()
