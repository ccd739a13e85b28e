std = "lua54"
max_line_length = 100
codes = true
files["stdlib/meta"] = {ignore = {"212", "241"}} -- annotated, never run
