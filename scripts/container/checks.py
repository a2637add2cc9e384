def problems(root): return []
