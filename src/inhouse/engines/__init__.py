"""Programs that do inference: how one is started, watched and spoken to."""
