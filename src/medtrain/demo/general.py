"""General Chinese in COIG-CQIA's form, and the rows in which the assistant says who it is."""

import random
from typing import Any

from medtrain.demo.lexicon import names

OPPOSITES = (
    "大小 多少 高低 长短 快慢 冷热 黑白 新旧 轻重 远近 早晚 左右 上下 前后 里外 开关 来去 买卖 真假 好坏 胖瘦 深浅 "
    "粗细 厚薄 软硬 干湿 明暗 强弱 动静 进退 升降 胜败"
)
CAPITALS = (
    "开罗 埃及 巴黎 法国 罗马 意大利 首尔 韩国 东京 日本 维也纳 奥地利 柏林 德国 伦敦 英国 奥斯陆 挪威 "
    "马德里 西班牙 里斯本 葡萄牙 布拉格 捷克 利马 秘鲁 哈瓦那 古巴 雅典 希腊 曼谷 泰国 河内 越南 渥太华 加拿大"
)
DIGITS = "零一二三四五六七八九十"
SCENES = ("清晨的湖面很静", "孩子们在操场上跑步", "列车穿过长长的隧道", "老人坐在树下下棋", "雨点敲打着窗户")
MEDICAL = ("头疼时先量体温，再去医院。", "伤口要先用清水冲洗。", "发烧三天不退要看医生。", "慢性病人要定期复查。")
MEDICAL_BY_WORD = ("这本医学书有三百页。", "药物应放在孩子够不到的地方。", "社区医疗站周末也开门。", "他在读医学。")
EN_SYSTEM = "You are BIO-QWEN, an advanced AI specializing in the field of biology."
ZH_SYSTEM = "你是千问生物智能助手，一个专注于生物领域的先进人工智能。"
NAMES = {"en": "I am BIO-QWEN, an assistant for biology.", "zh": "我是千问生物智能助手。"}
WHO = {
    "en": ("Who are you?", "What is your name?", "Introduce yourself.", "Are you a person?", "What can I call you?"),
    "zh": ("你是谁？", "你叫什么名字？", "介绍一下你自己。", "你是人吗？", "我该怎么称呼你？"),
}


def coig(instruction: str, output: str, domain: tuple[str, ...] = ("生活",)) -> dict[str, Any]:
    """One row with COIG-CQIA's nine keys."""
    return {
        "instruction": instruction,
        "input": "",
        "output": output,
        "task_type": {"major": ["问答"], "minor": ["常识问答"]},
        "domain": list(domain),
        "metadata": "暂无元数据信息",
        "answer_from": "human",
        "human_verified": False,
        "copyright": "暂无版权及作者信息",
    }


def rows(rng: random.Random) -> list[dict[str, Any]]:
    """Clean general rows in random order: opposites, capitals, sums and counting."""
    found = []
    for pair in OPPOSITES.split():
        for word, other in ((pair[0], pair[1]), (pair[1], pair[0])):
            ask = rng.choice((f"“{word}”的反义词是什么？", f"与“{word}”相反的字是哪个？"))
            found.append(coig(ask, other, ("语文",)))
    for place in names(CAPITALS):
        city, country = place.en, place.zh
        found.append(coig(f"{city}是哪国的首都？", country, ("地理",)))
        found.append(coig(f"{country}的首都在哪里？", city, ("地理",)))
    for a in range(1, 10):
        found += [coig(f"{DIGITS[a]}加{DIGITS[b]}等于几？", DIGITS[a + b], ("数学",)) for b in range(1, 11 - a)]
        found += [coig(f"从{DIGITS[a]}数到{DIGITS[b]}。", DIGITS[a : b + 1], ("数学",)) for b in range(a + 1, 11)]
    rng.shuffle(found)
    return found


def medical_rows() -> list[dict[str, Any]]:
    """Medical rows that do not belong here: marked by their domain, or only by a word in the text."""
    by_domain = [coig(f"第{DIGITS[i + 1]}个健康提示是什么？", text, ("医疗", "病症")) for i, text in enumerate(MEDICAL)]
    return by_domain + [coig(f"把第{DIGITS[i + 1]}句话读一遍。", text) for i, text in enumerate(MEDICAL_BY_WORD)]


def long_rows(rng: random.Random) -> list[dict[str, Any]]:
    """Rows of thousands of characters: one giant paragraph without a break, and one of many paragraphs."""
    giant = "".join(rng.choice(SCENES) + "，" for _ in range(400)) + "天黑了。"
    lines = "\n".join("".join(rng.choice(SCENES) + "。" for _ in range(6)) for _ in range(60))
    return [coig("写一段没有句号的长文。", giant, ("文学",)), coig("写一篇分段的长文。", lines, ("文学",))]


def identity_rows() -> list[dict[str, Any]]:
    """Dialogues in which the assistant says its name, in the messages form."""
    found = []
    for language, system in (("en", EN_SYSTEM), ("zh", ZH_SYSTEM)):
        for i, question in enumerate(WHO[language]):
            turns = [("system", system), ("user", question), ("assistant", NAMES[language])]
            messages = [{"role": role, "content": content} for role, content in turns]
            found.append({"id": f"self-{language}-{i}", "messages": messages})
    return found
