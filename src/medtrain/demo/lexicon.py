"""The words of the demo's closed world: invented drugs and diseases in two languages, and what is true of them.

Every name begins with a stem of its own and ends in a suffix that tells its kind, in both languages, so that a tiny
model can tell a drug from a disease by its form and one drug from another by its first syllable.
"""

import random
from dataclasses import dataclass

STEMS = (
    "zola 佐拉 tuvo 图沃 meri 梅里 bexa 贝沙 fluno 弗诺 kari 卡里 sede 塞德 lumi 卢米 navo 纳沃 pero 佩罗 "
    "rido 瑞多 gami 加米 hexo 赫索 dori 多里 vanti 万提 quero 奎罗 opta 奥塔 jelu 杰卢 wiso 威索 yuma 尤马 "
    "abri 艾布 cindo 辛多 elva 埃瓦 fosta 福斯 gruna 格鲁 hiram 希兰 istra 伊斯 jaco 雅科 kolme 科尔 lexi 莱西 "
    "mundo 蒙多 nerti 涅提 osmo 欧莫 pliva 浦瓦 ralto 拉托 sulpo 苏波 tibra 蒂布 ulne 乌尔 vesca 薇卡 xano 赞诺 "
    "zemi 泽米 bolta 博塔 cepra 采拉 drimo 德莫 ferno 费诺 gosti 戈提 halvo 哈沃 imbra 因布 juri 朱里 krona 克罗 "
    "lasti 兰提 mafto 马托 nilda 尼达 orbe 沃贝 pentu 彭图 quilo 昆洛 roska 罗卡 silva 西瓦 talmo 塔莫 urda 吴达 "
    "volmi 伏米 warti 华提 xeni 谢尼 yorba 约巴 zunda 祖达 brixo 布索 clamo 柯莫 duvra 杜拉 erno 厄诺 fyllo 菲洛 "
    "glano 葛诺 hosta 霍塔 ilmi 易米 jento 延托 kelba 凯巴 lodra 鲁德 mixu 米舒 norvi 诺维 obsi 敖西 prato 帕托"
)
DRUG_SUFFIXES = "pril 普利 mycin 霉素 lol 洛尔 zole 咪唑 statin 他汀 vir 韦林"
DISEASE_SUFFIXES = "itis 炎 osis 病 algia 痛 emia 血症"
PLANTS = (
    "fern 蕨草 thyme 香草 mint 薄荷 willow 柳树 pine 松树 lotus 荷花 bamboo 竹子 ginger 生姜 garlic 大蒜 "
    "clover 苜蓿 ivy 藤萝 maple 枫树 oak 橡树 birch 桦树 cedar 雪松 daisy 雏菊 poppy 罂粟 tulip 郁金 lily 百合 "
    "rose 玫瑰 sage 鼠尾 basil 罗勒 fennel 茴香 nettle 荨麻 yarrow 蓍草 aloe 芦荟 olive 橄榄 almond 杏仁 "
    "walnut 核桃 cherry 樱桃 peach 桃花 plum 李子 lemon 柠檬 cocoa 可可 coffee 咖啡 tea 茶叶 pepper 胡椒 "
    "saffron 藏红 barley 大麦 millet 小米"
)
CITIES = (
    "Lima 利马 Cairo 开罗 Paris 巴黎 Rome 罗马 Delhi 德里 Seoul 首尔 Tokyo 东京 Milan 米兰 Lyon 里昂 Turin 都灵 "
    "Havana 哈瓦那 Sydney 悉尼 Geneva 日内瓦 Vienna 维也纳 Berlin 柏林 London 伦敦 Oslo 奥斯陆 Madrid 马德里 "
    "Lisbon 里斯本 Prague 布拉格"
)
ORGANS = (
    "liver 肝脏 heart 心脏 kidney 肾脏 lung 肺叶 spleen 脾脏 stomach 胃部 skin 皮肤 brain 大脑 ear 耳朵 eye 眼睛 "
    "nose 鼻腔 throat 咽喉 knee 膝盖 hip 髋部 wrist 手腕 spine 脊柱 bladder 膀胱 tongue 舌头 elbow 肘部 ankle 脚踝"
)
SIGNS = (
    "fever 发热 cough 咳嗽 rash 皮疹 tremor 颤抖 nausea 恶心 thirst 口渴 fatigue 乏力 itching 瘙痒 vertigo 眩晕 "
    "sweating 出汗 hiccups 打嗝 swelling 肿胀 pallor 苍白 cramps 抽筋 insomnia 失眠 chills 寒战 hoarseness 嘶哑 "
    "numbness 麻木 sneezing 喷嚏 drooling 流涎"
)


@dataclass(frozen=True)
class Name:
    """One thing's name in both languages."""

    en: str
    zh: str

    def of(self, language: str) -> str:
        """The name in "en" or "zh"."""
        return self.en if language == "en" else self.zh


@dataclass(frozen=True, eq=False)
class Entity:
    """A drug or a disease: `kind` says which, `number` is its place in the lexicon, `facts` attribute -> value."""

    kind: str
    number: int
    name: Name
    facts: dict[str, Name]


@dataclass(frozen=True)
class World:
    """All drugs and diseases. Drugs have the facts plant and treats; diseases organ and sign."""

    drugs: tuple[Entity, ...]
    diseases: tuple[Entity, ...]


def names(pairs: str) -> list[Name]:
    """The names in a text of alternating English and Chinese words."""
    words = pairs.split()
    return [Name(en, zh) for en, zh in zip(words[::2], words[1::2], strict=True)]


def world(rng: random.Random, size: int = 16) -> World:
    """A world of `size` drugs and `size` diseases (at most 40 each); names and facts are drawn from `rng`."""
    stems = names(STEMS)
    rng.shuffle(stems)
    drug_names = [_named(stem, names(DRUG_SUFFIXES), i, cut=False) for i, stem in enumerate(stems[:size])]
    disease_names = [_named(stem, names(DISEASE_SUFFIXES), i, cut=True) for i, stem in enumerate(stems[40 : 40 + size])]
    facts = {"plant": _spread(names(PLANTS), size, rng), "treats": _spread(disease_names, size, rng)}
    drugs = [Entity("drug", i, name, {k: v[i] for k, v in facts.items()}) for i, name in enumerate(drug_names)]
    facts = {"organ": _spread(names(ORGANS), size, rng), "sign": _spread(names(SIGNS), size, rng)}
    diseases = [Entity("disease", i, name, {k: v[i] for k, v in facts.items()}) for i, name in enumerate(disease_names)]
    return World(tuple(drugs), tuple(diseases))


def _named(stem: Name, suffixes: list[Name], number: int, *, cut: bool) -> Name:
    suffix = suffixes[number % len(suffixes)]
    return Name((stem.en[:-1] if cut else stem.en) + suffix.en, stem.zh + suffix.zh)


def _spread(pool: list[Name], size: int, rng: random.Random) -> list[Name]:
    """`size` values in random order, every value of the pool used equally often as far as it goes."""
    values = [pool[i % len(pool)] for i in range(size)]
    rng.shuffle(values)
    return values
