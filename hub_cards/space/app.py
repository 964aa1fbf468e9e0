"""The Space: the page of `stmine demo`."""

from stmine_hf.demo.app import launch

if __name__ == "__main__":
    launch(host="0.0.0.0", port=7860)
